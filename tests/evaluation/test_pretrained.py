"""DINOv2 and CLIP on tiny weights of the published format: those of transformers, from a checked file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_of_tests import put
from torch import Tensor

from dgm import data
from dgm.errors import Unsupported
from dgm.evaluation import pretrained
from dgm.evaluation.features import features
from dgm.evaluation.pretrained import PRETRAINED, normalised
from dgm.evaluation.vision_transformer import VisionTransformer
from dgm.space import Space

WIDTH, PATCH, BLOCKS = 128, 56, 2


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Of all tensors by their published names; DINOv2's positions are of 5 x 5 patches, CLIP's of 4 x 4."""
    patches = (WIDTH, 3, PATCH, PATCH)
    if name == "dinov2":
        first, before, after = "embeddings.cls_token", [], ["layernorm"]
        found = {first: (1, 1, WIDTH), "embeddings.position_embeddings": (1, 26, WIDTH)}
        found |= {
            f"embeddings.patch_embeddings.projection.{k}": s for k, s in (("weight", patches), ("bias", (WIDTH,)))
        }
        block, attention, norm = "encoder.layer", "attention.attention.{}", "norm"
        names, out = ("query", "key", "value"), "attention.output.dense"
        for k in range(BLOCKS):
            found |= {f"{block}.{k}.layer_scale{n}.lambda1": (WIDTH,) for n in (1, 2)}
    else:
        first, before, after = "vision_model.embeddings.class_embedding", ["pre_layrnorm"], ["post_layernorm"]
        found = {first: (WIDTH,), "vision_model.embeddings.position_embedding.weight": (17, WIDTH)}
        found |= {"vision_model.embeddings.patch_embedding.weight": patches, "visual_projection.weight": (8, WIDTH)}
        block, attention, norm = "vision_model.encoder.layers", "self_attn.{}", "layer_norm"
        names, out = ("q_proj", "k_proj", "v_proj"), "self_attn.out_proj"
        before, after = [f"vision_model.{v}" for v in before], [f"vision_model.{v}" for v in after]
    linear = {attention.format(v): (WIDTH, WIDTH) for v in names} | {out: (WIDTH, WIDTH)}
    linear |= {"mlp.fc1": (2 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 2 * WIDTH)}
    for k in range(BLOCKS):
        for layer, shape in linear.items():
            found |= {f"{block}.{k}.{layer}.weight": shape, f"{block}.{k}.{layer}.bias": shape[:1]}
        before += [f"{block}.{k}.{norm}{n}" for n in (1, 2)]
    return found | {f"{v}.{part}": (WIDTH,) for v in before + after for part in ("weight", "bias")}


def tiny(name: str) -> dict[str, Tensor]:
    """Each tensor from the seed that is its number in the order of names."""
    found = {}
    for seed, (tensor, shape) in enumerate(sorted(shapes(name).items())):
        value = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        found[tensor] = (
            value * (2 / value[0].numel()) ** 0.5 if len(shape) > 1 and "embeddings." not in tensor else value
        )
    return found


# transformers 5.23 (Dinov2Model's pooler_output, CLIPVisionModelWithProjection's image_embeds) of the same weights and
# images: the first features of the first image, their mean, and the mean of the absolute values of both images
THEIRS = {
    "dinov2": ([-0.402199, 1.900060, -0.097877, -0.827716, 0.890452, 0.979632], 0.204118, 0.954774),
    "clip": ([-0.247005, -0.956258, -3.317225, 2.505092, 0.065869, 0.945788], 0.240800, 1.292413),
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_features_are_those_of_transformers(name: str) -> None:
    """CLIP's grid of patches is that of its positions, DINOv2's positions are interpolated."""
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(5))
    found = VisionTransformer(tiny(name), PRETRAINED[name].architecture)(images)
    first, mean, size = THEIRS[name]
    assert found[0, :6].tolist() == pytest.approx(first, abs=1e-4)  # float32, in sums of another order
    assert found[0].mean().item() == pytest.approx(mean, abs=1e-4)
    assert found.abs().mean().item() == pytest.approx(size, abs=1e-4)


@pytest.mark.parametrize("name", PRETRAINED)
def test_features_of_a_constant_image_from_a_checked_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a grey level c all sizes and filters agree: each colour is (c / 16 - mean) / std."""
    weights, spec = tiny(name), PRETRAINED[name]
    spec = replace(spec, weights=replace(spec.weights, sha256=put(weights, tmp_path, monkeypatch)))
    monkeypatch.setattr(pretrained, "PRETRAINED", {name: spec})
    space = features(name, data.load("digits"))
    colours = (torch.tensor(0.25) - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    expected = VisionTransformer(weights, spec.architecture)(colours[None, :, None, None].expand(1, 3, 224, 224))
    found = space.of(torch.full((2, 1, 8, 8), 4, dtype=torch.uint8))
    torch.testing.assert_close(found, expected.expand(2, -1).double(), rtol=1e-3, atol=1e-4)
    assert space.about["sha256"] == spec.weights.sha256


def test_points_have_no_features_of_images() -> None:
    with pytest.raises(Unsupported, match="clip features are of grey or colour images"):
        features("clip", data.load("toy/moons"))


def test_images_are_normalised_by_colour() -> None:
    """Black and white of each colour, at the ends of the range; a picture twice as large is the same."""
    spec = PRETRAINED["clip"]
    space = Space.levels((3, 4, 4), 256)
    x = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    x[:, 1] = 255
    found = normalised(space, spec, x)[0, :, 100, 100]
    expected = (torch.tensor([0.0, 1.0, 0.0]) - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (spec.mean, spec.std) == ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    board = 255 * (torch.arange(672)[:, None] + torch.arange(672)).remainder(2).to(torch.uint8).expand(1, 3, -1, -1)
    grey = normalised(Space.levels((3, 672, 672), 256), spec, board)[0, :, 50:60, 50:60]  # each of 3 × 3 pixels
    middle = (0.5 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    torch.testing.assert_close(grey, middle[:, None, None].expand_as(grey), rtol=0, atol=0.05)
    imagenet = PRETRAINED["dinov2"]
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
