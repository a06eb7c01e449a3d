"""Networks are as wide and as deep as the settings say, for images and for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from dgm.models.energy.ebm import EBM
from dgm.models.flow.integer_flow import IntegerCoupling
from dgm.models.flow.realnvp import RealNVP
from dgm.models.gan.gan import GAN
from dgm.networks.causal_conv import CausalConv2d
from dgm.networks.conv import ConvDecoder, ConvEncoder, ConvNet, Discriminator, Generator
from dgm.registry import create
from dgm.space import Space
from dgm.transforms import ActNorm, AffineCoupling, ChannelCoupling, VectorCoupling

ROW, IMAGE = Space.continuous((5,)), Space.continuous((3, 9, 17))


def linear(network: nn.Module) -> list[int]:
    """The sizes along a perceptron."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def convolutions(network: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_channels, layer.out_channels) for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_an_energy() -> None:
    assert linear(EBM(ROW, EBM.Config(width=2)).network) == [5, 8, 8, 8, 1]
    network = EBM(IMAGE, EBM.Config(width=2)).network
    assert convolutions(network) == [(3, 2), (2, 4), (4, 8)]  # 9 × 17, 5 × 9, 3 × 5
    assert linear(network) == [8 * 3 * 5, 8, 1]


def test_a_game() -> None:
    gan = GAN(ROW, GAN.Config(latent=3, width=2), Space.categories(4))
    assert linear(gan.generator) == [7, 8, 8, 8, 5]
    assert linear(gan.discriminator) == [9, 8, 8, 8, 1]
    gan = GAN(IMAGE, GAN.Config(latent=3, width=2), Space.categories(4))
    assert isinstance(gan.generator.network, Generator)
    assert linear(gan.generator) == [7, 8 * 3 * 5]
    assert [norm.num_features for norm in gan.generator.network.norms] == [8, 4, 2]  # type: ignore[union-attr]
    assert convolutions(gan.generator) == [(8, 4), (4, 2), (2, 3)]
    assert isinstance(gan.discriminator.network, Discriminator)
    assert convolutions(gan.discriminator) == [(7, 2), (2, 4), (4, 8)]
    assert linear(gan.discriminator) == [8 * 3 * 5, 1]


def test_an_encoder_and_a_decoder() -> None:
    encoder, decoder = ConvEncoder(IMAGE.shape, 2, 5), ConvDecoder(5, 2, IMAGE.shape)
    assert convolutions(encoder) == [(3, 2), (2, 4), (4, 8)]
    assert linear(encoder) == [8 * 3 * 5, 5]
    assert convolutions(decoder) == [(8, 4), (4, 2), (2, 3)]
    assert linear(decoder) == [5, 8 * 3 * 5]


def test_a_flow() -> None:
    config = RealNVP.Config(layers=3, hidden=4, blocks=2)
    networks = couplings(RealNVP(ROW, config, Space.categories(2)))
    # three or two of five dimensions and two of the condition give a shift and a log-scale of each of the others
    assert [linear(network) for network in networks] == [[5, 4, 4, 4, 4], [4, 4, 4, 4, 6], [5, 4, 4, 4, 4]]
    config = RealNVP.Config(layers=5, hidden=4, blocks=2, scales=1)
    networks = couplings(RealNVP(Space.continuous((3, 4, 6)), config, Space.categories(2)))
    for network, inputs in zip(networks, [3, 3, 6, 6, 6], strict=True):  # all channels, then half of four times as many
        assert isinstance(network, ConvNet)
        assert convolutions(network) == [(inputs + 2, 4), *[(4, 4)] * 4, (4, 2 * inputs)]


@pytest.mark.parametrize(
    ("name", "shape", "settings", "channels"),
    [
        ("residual_flow", (3, 4, 6), {"blocks": 5, "hidden": 2, "layers": 1}, [3, 3, 12, 12, 12]),
        ("residual_flow", (3, 5, 6), {"blocks": 3, "hidden": 2, "layers": 1}, [3, 3, 3]),
        ("residual_flow", (3, 6, 5), {"blocks": 3, "hidden": 2, "layers": 1}, [3, 3, 3]),
        ("residual_flow", (5,), {"blocks": 3, "hidden": 2, "layers": 1}, [5, 5, 5]),
        ("glow", (1, 8, 4), {"layers": 3, "scales": 3, "hidden": 2}, [4, 4, 4, 8, 8, 8]),
        ("glow", (1, 8, 4), {"layers": 2, "scales": 1, "hidden": 2}, [4, 4]),
        ("glow", (1, 5, 4), {"layers": 2, "hidden": 2}, [20, 20]),
        ("nsf", (1, 8, 4), {"layers": 2, "hidden": 2, "kind": "coupling"}, [4, 4, 8, 8]),
    ],
)
def test_the_maps_of_each_scale(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], channels: list[int]
) -> None:
    """Kills: residual_flow without the blocks after its squeeze, a scale too few or too many, steps of another size."""
    model = create(name, Space.continuous(shape), **settings)
    assert [len(part.loc) for part in model.modules() if isinstance(part, ActNorm)] == channels


@pytest.mark.parametrize(
    ("shape", "resolutions", "channels"),
    [
        ((1, 8, 8), 2, [4, 4, 4, 8, 8, 8]),
        ((1, 8, 4), 3, [4, 4, 4, 8, 8, 8]),  # the third would have an odd side
        ((1, 3, 4), 2, [1, 1, 1]),
        ((7,), 2, [7, 7, 7]),
    ],
)
def test_the_couplings_of_each_resolution(shape: tuple[int, ...], resolutions: int, channels: list[int]) -> None:
    flow = create("integer_flow", Space.levels(shape, 5), layers=3, resolutions=resolutions, hidden=2)
    assert [len(part.moved) for part in flow.modules() if isinstance(part, IntegerCoupling)] == channels


def couplings(flow: RealNVP) -> list[nn.Module]:
    """The networks of the couplings."""
    kinds = (AffineCoupling, ChannelCoupling, VectorCoupling)
    return [part.network for part in flow.modules() if isinstance(part, kinds)]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("pixelcnn", {"width": 4, "layers": 2, "head": 6}, [(3, 8), *[(8, 4), (4, 4), (4, 8)] * 2, (8, 6), (6, 15)]),
        ("pixelrnn", {"width": 4, "layers": 1, "head": 6}, [(3, 8), (8, 16), (8, 16), (4, 8), (8, 6), (6, 15)]),
        (
            "gated_pixelcnn",
            {"width": 4, "layers": 2, "head": 6},
            [*[(3, 8), (3, 8), (4, 4)], *[(4, 8), (4, 8), (4, 4)], (4, 6), (6, 15)],
        ),
    ],
)
def test_pixel_models(name: str, settings: dict[str, int], expected: list[tuple[int, int]]) -> None:
    model = create(name, Space.levels((3, 4, 5), 5), **settings)
    found = [tuple(m.weight.shape[1::-1]) for m in model.modules() if isinstance(m, CausalConv2d)]
    assert found == expected


def test_masked_diffusion() -> None:
    images = create("masked_diffusion", Space.levels((3, 4, 5), 6), Space.categories(2), width=8).network
    assert images.embedding.weight.shape == (7, 4)  # a symbol more than the values: the mask
    assert next(iter(images.conditioning.parts)).embedding.table.weight.shape == (2, 32)
    assert (images.body.stem.in_channels, images.body.stem.out_channels, images.body.head.out_channels) == (12, 8, 18)
    words = create("masked_diffusion", Space.tokens(9, 6), width=8, layers=3).network
    assert words.body.positions.shape == (9, 32)
    assert [layer.heads for layer in words.body.layers] == [4] * 3
