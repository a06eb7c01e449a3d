"""Inception and LPIPS beside published implementations, and their weights from files of the same format."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from hub_of_tests import put
from torch import Tensor, nn

from dgm import create, data
from dgm.errors import BadInput, MissingExtra, UnknownName, Unsupported
from dgm.evaluation import inception, lpips
from dgm.evaluation.against import against
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.features import features, refuse_unusable
from dgm.evaluation.fidelity import beside_truth
from dgm.evaluation.inception import BLOCKS, STRIDE, Inception
from dgm.evaluation.lpips import HEADS, LPIPS
from dgm.evaluation.sides import Side
from dgm.evaluation.weights import read
from dgm.space import Space

# output channels of each convolution, and its kernel
STEM = {"1a_3x3": (32, 3, 3), "2a_3x3": (32, 3, 3), "2b_3x3": (64, 3, 3), "3b_1x1": (80, 1, 1), "4a_3x3": (192, 3, 3)}
KERNELS = {
    "branch1x1": (1, 1),
    "branch5x5_2": (5, 5),
    "branch3x3": (3, 3),
    "branch3x3_2": (3, 3),
    "branch3x3_2a": (1, 3),
    "branch3x3_2b": (3, 1),
    "branch3x3dbl_2": (3, 3),
    "branch3x3dbl_3": (3, 3),
    "branch3x3dbl_3a": (1, 3),
    "branch3x3dbl_3b": (3, 1),
    "branch7x7_2": (1, 7),
    "branch7x7_3": (7, 1),
    "branch7x7dbl_2": (7, 1),
    "branch7x7dbl_3": (1, 7),
    "branch7x7dbl_4": (7, 1),
    "branch7x7dbl_5": (1, 7),
    "branch7x7x3_2": (1, 7),
    "branch7x7x3_3": (7, 1),
    "branch7x7x3_4": (3, 3),
}
A = [64, 48, 64, 64, 96, 96]
LAST = [320, 384, 384, 384, 448, 384, 384, 384, 192]
WIDTHS = {
    "Mixed_5b": [*A, 32],
    "Mixed_5c": [*A, 64],
    "Mixed_5d": [*A, 64],
    "Mixed_6a": [384, 64, 96, 96],
    **{
        f"Mixed_6{k}": [192, n, n, 192, n, n, n, n, 192, 192] for k, n in zip("bcde", (128, 160, 160, 192), strict=True)
    },
    "Mixed_7a": [192, 320, 192, 192, 192, 192],
    "Mixed_7b": LAST,
    "Mixed_7c": LAST,
}


def shapes(divisor: int) -> dict[str, tuple[int, ...]]:
    """Of the kernels of all convolutions, by their names; the channels but the colours are divided."""
    found, channels = {}, 3
    for name, (out, *kernel) in STEM.items():
        found[f"Conv2d_{name}"], channels = (out // divisor, channels, *kernel), out // divisor
    for block, branches in BLOCKS.items():
        widths, outs = iter(WIDTHS[block]), 0
        for branch in branches:
            inside = channels
            for name in branch.split():
                plain = name.removesuffix(STRIDE)
                if plain not in ("mean", "max"):
                    if f"{block}.{plain}" not in found:
                        found[f"{block}.{plain}"] = (next(widths) // divisor, inside, *KERNELS.get(plain, (1, 1)))
                    inside = found[f"{block}.{plain}"][0]
            outs += inside
        channels = outs
    return found


def random_inception(divisor: int) -> dict[str, Tensor]:
    """Each tensor from the seed that is its number in the order of names."""
    sizes = {}
    for name, shape in shapes(divisor).items():
        sizes[f"{name}.conv.weight"] = shape
        sizes |= {f"{name}.bn.{part}": shape[:1] for part in ("bias", "running_mean", "running_var", "weight")}
    found = {}
    for seed, name in enumerate(sorted(sizes)):
        value = torch.randn(sizes[name], generator=torch.Generator().manual_seed(seed))
        if name.endswith("conv.weight"):
            found[name] = value * (2 / value[0].numel()) ** 0.5
        else:
            found[name] = 1 + 0.1 * value.abs() if name.endswith(("var", "weight")) else 0.1 * value
    return found


@pytest.mark.slow
def test_inception_is_torch_fidelitys() -> None:
    """Features that torch-fidelity 0.4.0 (FeatureExtractorInceptionV3) has of the same weights and the same image."""
    image = torch.randint(0, 256, (1, 3, 299, 299), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    found = Inception(random_inception(1))((image.float() - 128) / 128)
    assert found.shape == (1, 2048)
    some = found[0, [0, 319, 320, 1087, 1472, 2047]].tolist()
    expected = [0.16516369581222534, 0.0, 0.0, 0.007024999707937241, 0.0, 16.482582092285156]
    assert some == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert found.mean().item() == pytest.approx(2.2426300048828125, rel=1e-4)


def test_a_convolution_is_normalised_and_rectified() -> None:
    """Sums of 9, 6 and 4 ones twice: 3 (18 - 10) / 2 - 1 inside, 3 (12 - 10) / 2 - 1 at an edge, 0 for -4 in a corner.

    Kills: the rectifier left out, epsilon left out, padding of stride 2.
    """
    of_bn = {"running_mean": 10.0, "running_var": 4 - inception.EPSILON, "weight": 3.0, "bias": -1.0}
    weights = {f"c.bn.{name}": torch.tensor([value]) for name, value in of_bn.items()}
    network, ones = Inception({**weights, "c.conv.weight": torch.full((1, 1, 3, 3), 2.0)}), torch.ones(1, 1, 5, 5)
    expected = torch.full((5, 5), 11.0)
    expected[0] = expected[-1] = expected[:, 0] = expected[:, -1] = torch.tensor([0, 2.0, 2, 2, 0])
    torch.testing.assert_close(network.convolution("c", ones)[0, 0], expected, rtol=1e-6, atol=1e-5)
    for size, how in ((3, {"padded": False}), (2, {"stride": 2})):
        torch.testing.assert_close(network.convolution("c", ones, **how), torch.full((1, 1, size, size), 11.0))  # type: ignore[arg-type]


def test_maps_have_the_sizes_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 1 of arXiv:1512.00567 from 299 pixels on, and the mean over the last 8 × 8; epsilon is TensorFlow's.

    The last block alone has a maximum in the place of a mean.
    """
    sides: dict[str, int] = {}
    right = Inception.convolution

    def convolution(self: Inception, name: str, x: Tensor, stride: int = 1, *, padded: bool = True) -> Tensor:
        sides.setdefault(name.split(".")[0], x.shape[-1])
        return right(self, name, x, stride, padded=padded)

    monkeypatch.setattr(Inception, "convolution", convolution)
    weights = random_inception(16)
    found = Inception(weights)(torch.randn(1, 3, 299, 299))
    stem = [299, 149, 147, 73, 73, *[35] * 4, *[17] * 5, 8, 8]
    assert list(sides.values()) == stem
    assert found.mean() != found.amax()
    last = torch.arange(128.0).view(1, 2, 8, 8)
    monkeypatch.setattr(Inception, "branch", lambda self, block, names, x: last)
    torch.testing.assert_close(Inception(weights)(torch.randn(1, 3, 299, 299))[0, :2], last.mean((0, 2, 3)))
    assert inception.EPSILON == 1e-3
    pooled = {block: branches[-1].split()[0] for block, branches in BLOCKS.items()}
    assert {pool: [block[-2:] for block in pooled if pooled[block] == pool] for pool in pooled.values()} == {
        "mean": ["5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"],
        "max/2": ["6a", "7a"],
        "max": ["7c"],
    }


def test_images_are_resized_between_the_centres_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pixels, black and white, on four: 0, 1/4, 3/4 and 1 of the way, as pytorch-fid does without antialiasing."""
    seen: list[Tensor] = []
    monkeypatch.setattr(inception, "SIDE", 4)
    monkeypatch.setattr(inception, "read", lambda *_: {})
    monkeypatch.setattr(inception.Inception, "__call__", lambda self, x: seen.append(x) or x.flatten(1))
    one = torch.tensor([[[[0, 1], [0, 1]]]], dtype=torch.uint8)
    split = data.Split(one)
    parts = dict.fromkeys(("train", "validation", "test"), split)
    inception.inception(data.Dataset(name="x", space=Space.binary((1, 2, 2)), split="", **parts)).of(one)
    torch.testing.assert_close(seen[0], torch.tensor([-1.0, -0.5, 0.5, 1.0]).expand(1, 3, 4, 4))


def test_poolings_at_the_border_are_of_the_pixels_inside() -> None:
    """Where all pixels of a map are 1, so are those of both poolings."""
    network, ones = Inception({}), torch.ones(1, 2, 4, 4)
    assert torch.equal(network.branch("", ["mean"], ones), ones)
    assert torch.equal(network.branch("", ["max"], ones), ones)


def test_features_of_tiny_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of grey digits of one level all sizes agree: x = 2 * 4 / 16 - 1 everywhere, in three equal colours."""
    tiny = random_inception(16)
    sha256 = put(tiny, tmp_path, monkeypatch)
    monkeypatch.setattr(inception, "WEIGHTS", replace(inception.WEIGHTS, sha256=sha256))
    monkeypatch.setattr(inception, "SIDE", 107)
    space = features("inception", data.load("digits"))
    found = space.of(torch.full((1, 1, 8, 8), 4, dtype=torch.uint8))
    expected = Inception(tiny)(torch.full((1, 3, 107, 107), -0.5))
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-5)
    assert found.shape == (1, 128)
    assert space.about["sha256"] == sha256


def test_other_weights_and_a_missing_extra_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put({"a": torch.zeros(2)}, tmp_path, monkeypatch)
    with pytest.raises(BadInput, match=r"has the sha256 .* the published file has b7a528bf"):
        read("inception features", inception.WEIGHTS)

    def failing(*_: str, revision: str) -> str:
        raise OSError("no connection\nand more")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=failing))
    with pytest.raises(
        BadInput, match=r"vgg16\.tv_in1k/model.safetensors cannot be loaded: OSError: no connection and more;"
    ):
        read("LPIPS", lpips.VGG)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="LPIPS needs the extra 'pretrained'"):
        read("LPIPS", lpips.VGG)
    with pytest.raises(MissingExtra, match="the feature space inception needs the extra"):
        refuse_unusable(["pca", "inception"], data.load("digits"))
    refuse_unusable(["pixels", "pca"], data.load("digits"))


def test_features_that_cannot_be_had_are_refused_before_samples_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a check of the extra alone, after which the whole evaluation ran without the features that were named."""

    def failing(*_: str, revision: str) -> str:
        raise OSError("no connection.")

    def drawn(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=failing))
    for module in ("samples", "sides"):
        monkeypatch.setattr(f"dgm.evaluation.{module}.sample", drawn)
    digits, moons = data.load("digits"), data.load("toy/moons")
    model, of_points = create("made", digits.space, hidden=8), create("made", moons.space, hidden=8)
    remedy = r"cannot be loaded: OSError: no connection; .* hf download openai/clip-vit-base-patch32 model.safetensors"
    with pytest.raises(BadInput, match=remedy):
        evaluate(model, digits, spaces=["pixels", "clip"])
    with pytest.raises(BadInput, match=r"fid_inception.safetensors cannot be loaded"):
        against(Side("made", digits, model), Side("digits", digits), spaces=["inception"])
    with pytest.raises(Unsupported, match=r"clip features are of grey or colour images"):
        evaluate(of_points, moons, spaces=["clip"])
    with pytest.raises(BadInput, match=r"no images with labels"):
        evaluate(of_points, moons, spaces=["classifier"])
    with pytest.raises(UnknownName, match=r"no feature space is called 'vgg'"):
        against(Side("made", digits, model), Side("digits", digits), spaces=["vgg"])


def vgg(*widths: int) -> nn.Sequential:
    """Convolutions and poolings in the order of VGG-16's."""
    layers: list[nn.Module] = []
    channels = 3
    for k, (width, depth) in enumerate(zip(widths, (2, 2, 3, 3, 3), strict=True)):
        layers += [nn.MaxPool2d(2, 2)] if k else []
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def by_name(network: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{name}": value.detach() for name, value in network.state_dict().items()}


def test_lpips_is_the_mean_of_weighted_squared_differences() -> None:
    """Of the features before each pooling and at the end, whose norm over channels is 1: Zhang et al., equation 1."""
    torch.manual_seed(0)
    widths = (2, 3, 4, 5, 6)
    network, heads = vgg(*widths), {str(k): torch.rand(1, width, 1, 1) for k, width in enumerate(widths)}
    x, truth = torch.rand(2, 2, 3, 32, 20) * 2 - 1
    shift, scale = (torch.tensor(numbers)[:, None, None] for numbers in (lpips.SHIFT, lpips.SCALE))
    features, expected, left = [(v - shift) / scale for v in (x, truth)], torch.zeros(2), list(heads.values())
    with torch.no_grad():
        for layer, after in zip(network, [*network[1:], nn.MaxPool2d(2)], strict=True):
            features = [layer(v) for v in features]
            if isinstance(after, nn.MaxPool2d):
                a, b = (v / (v.square().sum(1, keepdim=True) + 1e-8).sqrt() for v in features)
                expected += ((a - b).square() * left.pop(0)).sum(1).mean((1, 2))
    assert (lpips.SHIFT, lpips.SCALE) == ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))  # those of its authors
    found = LPIPS(by_name(network), heads)(x, truth)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found > 0.01).all()


@pytest.mark.slow
def test_lpips_is_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the published w_l, and random weights of VGG-16 in both."""
    from torchmetrics.functional.image import lpips as theirs

    network = vgg(64, 128, 256, 512, 512)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_: network)
    x, truth = torch.rand(2, 2, 3, 32, 20).mul(2).sub(1)
    reference = theirs._LPIPS(net="vgg", pnet_rand=True)
    with torch.no_grad():
        expected = reference(x, truth).flatten()
    found = LPIPS(by_name(network), safetensors.torch.load_file(HEADS))
    torch.testing.assert_close(found(x, truth), expected, rtol=1e-4, atol=1e-6)
    assert found(x, x).tolist() == [0, 0]


def test_lpips_of_digits_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = vgg(4, 4, 4, 4, 4)
    monkeypatch.setattr(lpips, "VGG", replace(lpips.VGG, sha256=put(by_name(tiny), tmp_path, monkeypatch)))
    monkeypatch.setattr(lpips, "HEADS", tmp_path / "heads.safetensors")
    heads = {f"lin{k}": torch.rand(1, 4, 1, 1) for k in range(5)}
    safetensors.torch.save_file(heads, tmp_path / "heads.safetensors")
    truth = torch.randint(17, (3, 1, 8, 8))
    noisy = (truth[:, None] + torch.randint(-4, 5, (3, 4, 1, 8, 8))).clamp(0, 16)
    one, mean = beside_truth(noisy, truth, Space.levels((1, 8, 8), 17), perceptual=lpips.lpips())
    assert one["lpips"] > 0
    assert beside_truth(truth[:, None], truth, Space.levels((1, 8, 8), 17), perceptual=lpips.lpips())[0]["lpips"] == 0
    expected = LPIPS(by_name(tiny), heads)(noisy.double().mean(1) / 8 - 1, truth.double() / 8 - 1).mean()
    assert mean["lpips"] == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(BadInput, match="of one shape"):
        lpips.lpips()(truth.float(), truth[:2].float())
