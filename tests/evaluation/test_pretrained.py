"""Features of pretrained networks, on tiny weights of the same format; what is missing is one line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgm import data
from dgm.errors import BadInput, MissingExtra, Unsupported
from dgm.evaluation import pretrained
from dgm.evaluation.features import features
from dgm.evaluation.pretrained import PRETRAINED, normalised, refuse_without_extra
from dgm.space import Space


def tiny(name: str) -> Any:
    """A network of the class with random weights."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if name == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**small, patch_size=56, image_size=224, mlp_ratio=2))
    config = transformers.CLIPVisionConfig(**small, intermediate_size=32, patch_size=56, projection_dim=8)
    return transformers.CLIPVisionModelWithProjection(config)


@pytest.mark.parametrize("name", PRETRAINED)
def test_features_are_the_networks_of_a_constant_image(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a grey level c all sizes and filters agree: each colour is (c / 16 - mean) / std."""
    network, spec = tiny(name).eval(), PRETRAINED[name]
    network.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    monkeypatch.setattr(pretrained, "PRETRAINED", {name: replace(spec, address=str(tmp_path))})
    space = features(name, data.load("digits"))
    x = torch.full((2, 1, 8, 8), 4, dtype=torch.uint8)
    colours = (torch.tensor(0.25) - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    with torch.no_grad():
        expected = network(pixel_values=colours[None, :, None, None].expand(2, 3, 224, 224))[spec.output]
    torch.testing.assert_close(space.of(x), expected.double(), rtol=1e-4, atol=1e-5)
    assert space.about["sha256"] == pretrained.digest(network.state_dict())
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert space.about["sha256"] != pretrained.digest(network.state_dict())


def test_a_missing_extra_and_missing_weights_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data.load("digits")
    monkeypatch.setitem(sys.modules, "transformers", None)
    for fails in (lambda: features("dinov2", digits), lambda: refuse_without_extra(["pixels", "dinov2"])):
        with pytest.raises(MissingExtra, match="dinov2 features needs the extra 'pretrained', which is not installed"):
            fails()
    refuse_without_extra(["pixels", "pca"])

    def failing(address: str, revision: str, use_safetensors: bool) -> None:
        raise OSError(f"{address}: no connection\nand more")

    network = SimpleNamespace(from_pretrained=failing)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(Dinov2Model=network))
    with pytest.raises(BadInput, match=r"facebook/dinov2-small cannot be loaded: .*no connection") as caught:
        features("dinov2", digits)
    assert "\n" not in str(caught.value)
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
