"""The networks of generators, of discriminators and of drifting's encoder, written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, conv_transpose2d, group_norm, interpolate

from dgm.models.gan.networks import DenseDiscriminator
from dgm.networks.conv import ConvDecoder, ConvEncoder
from dgm.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from dgm.networks.energy import EnergyFeatures
from dgm.networks.masked_autoencoder import MaskedAutoencoder, Stage
from dgm.networks.mlp import mlp, scaled
from dgm.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from dgm.networks.r3gan import R3GANDiscriminator, R3GANGenerator, ResidualBlock

SHAPE = (2, 9, 11)  # 3 × 3, 5 × 6 and 9 × 11 pixels


def leaky(h: Tensor) -> Tensor:
    return torch.maximum(h, 0.2 * h)


def silu(h: Tensor) -> Tensor:
    return h * h.sigmoid()


def test_dcgans_generator() -> None:
    """Batch normalisation and ReLU before each transposed convolution. Kills: either of them left out or moved."""
    net: Any = DCGANGenerator(4, 3, SHAPE).double()
    z = torch.randn(6, 4).double()
    h = (z @ net.project.weight.mT).view(6, 6, 3, 3)
    for norm, layer, size in zip(net.norms, net.layers, ((5, 6), (9, 11)), strict=True):
        h = batch_norm(h, None, None, norm.weight, norm.bias, training=True).clamp_min(0)
        added = (size[0] - 2 * h.shape[2] + 1, size[1] - 2 * h.shape[3] + 1)
        h = conv_transpose2d(h, layer.weight, layer.bias, stride=2, padding=2, output_padding=added)
        assert h.shape[2:] == size
    torch.testing.assert_close(net(z), h)
    assert [layer.bias is None for layer in net.layers] == [True, False]  # before a norm a bias has no effect


@pytest.mark.parametrize("normalised", [True, False])
def test_dcgans_discriminator(normalised: bool) -> None:
    """Leaky ReLU of a fifth; no norm after the first layer. Kills: another slope, a norm there or unasked."""
    net: Any = DCGANDiscriminator(2, 3, SHAPE, batch_norm=normalised).double()
    h = x = torch.randn(5, *SHAPE).double()
    convs = [layer for layer in net.layers if hasattr(layer, "stride")]
    norms = [layer for layer in net.layers if hasattr(layer, "running_mean")]
    assert len(norms) == (1 if normalised else 0)
    assert [conv.weight.shape[0] for conv in convs] == [3, 6]  # doubled at each halving
    for k, conv in enumerate(convs):
        h = conv2d(h, conv.weight, conv.bias, stride=2, padding=2)
        if k and normalised:
            h = batch_norm(h, None, None, norms[0].weight, norms[0].bias, training=True)
        h = leaky(h)
    torch.testing.assert_close(net(x), h.flatten(1))
    assert h[0].numel() == net.features


def test_dcgans_weights_start_at_a_deviation_of_a_fiftieth() -> None:
    net: Any = DCGANGenerator(64, 32, SHAPE)
    for weight, mean in ((net.project.weight, 0.0), (net.layers[0].weight, 0.0), (net.norms[0].weight, 1.0)):
        weight, n = weight.detach(), weight.numel()
        assert float(weight.mean()) == pytest.approx(mean, abs=5 * 0.02 / n**0.5)
        assert float(weight.std()) == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)


def test_r3gans_block_is_the_identity_at_first_and_keeps_the_variance() -> None:
    """x + W_3 a(W_2 a(W_1 x)), W_3 = 0. Kills: an activation left out, a gain without the slope, no L^(-1/4)."""
    net: Any = ResidualBlock(16, 4)
    x = torch.randn(3, 16, 4, 4)
    assert torch.equal(net(x), x)
    assert net.second.groups == 2
    torch.nn.init.normal_(net.third.weight)
    h = leaky(conv2d(leaky(conv2d(x, net.first.weight)), net.second.weight, padding=1, groups=2))
    torch.testing.assert_close(net(x), x + conv2d(h, net.third.weight), atol=1e-4, rtol=1e-4)
    gain = math.sqrt(2 / 1.04) * 4**-0.25
    for layer, inputs in ((net.first, 16), (net.second, 16 * 9)):
        n = layer.weight.numel()
        assert float(layer.weight.detach().std()) == pytest.approx(gain / inputs**0.5, rel=5 / (2 * n) ** 0.5)
        assert not layer.bias.any()


@pytest.mark.parametrize("network", [R3GANGenerator, R3GANDiscriminator])
def test_r3gans_blocks_are_scaled_by_all_blocks_of_the_network(network: Any) -> None:
    """Two at each of three sizes. Kills: L of one size alone, of the sizes alone."""
    net = network(2, 32, SHAPE, blocks=2)
    assert [len(blocks) for blocks in net.blocks] == [2, 2, 2]
    for block in itertools.chain(*net.blocks):
        weight = block.first.weight.detach()
        expected = math.sqrt(2 / 1.04) * 6**-0.25 / weight.shape[1] ** 0.5
        assert float(weight.std()) == pytest.approx(expected, rel=5 / (2 * weight.numel()) ** 0.5)


def test_r3gans_channels_double_up_to_four_times_the_width() -> None:
    """At 4, 8, 16 and 32 pixels. Kills: channels that go on doubling."""
    net: Any = R3GANGenerator(4, 8, (1, 32, 32))
    judge: Any = R3GANDiscriminator(1, 8, (1, 32, 32))
    widths = [[blocks[0].third.out_channels for blocks in either.blocks] for either in (net, judge)]
    assert widths == [[32, 32, 16, 8], [8, 16, 32, 32]]
    assert judge.features == 32


def test_r3gans_layers_outside_of_blocks_keep_the_variance() -> None:
    """N(0, 1 / fan-in), and a map from N(0, 1). Kills: the gain of a rectifier that does not follow, an output of 0."""
    net: Any = R3GANGenerator(64, 64, (16, 8, 8))
    judge: Any = R3GANDiscriminator(16, 64, (16, 8, 8))
    weights = [layer.weight for layer in (net.modulate, net.last, judge.first, judge.basis, *net.change, *judge.change)]
    for weight, inputs in [(net.basis, 1), *((weight, weight[0].numel()) for weight in weights)]:
        expected = pytest.approx(inputs**-0.5, rel=5 / (2 * weight.numel()) ** 0.5)
        assert float(weight.detach().std()) == expected, tuple(weight.shape)


def test_r3gans_networks() -> None:
    """The blocks are the identity at first. Kills: a basis that is added, sizes in another order, a map left out."""
    net: Any = R3GANGenerator(4, 16, SHAPE).double()
    z = torch.randn(3, 4).double()
    h = net.basis * (z @ net.modulate.weight.mT)[:, :, None, None]
    for change, size in zip(net.change, ((5, 6), (9, 11)), strict=True):
        h = interpolate(conv2d(h, change.weight), size, mode="bilinear")
    torch.testing.assert_close(net(z), conv2d(h, net.last.weight, net.last.bias))
    judge: Any = R3GANDiscriminator(2, 16, SHAPE).double()
    x = torch.randn(3, *SHAPE).double()
    h = conv2d(x, judge.first.weight, judge.first.bias)
    for change, size in zip(judge.change, ((5, 6), (3, 3)), strict=True):
        h = conv2d(interpolate(h, size, mode="bilinear", antialias=True), change.weight)
    torch.testing.assert_close(judge(x), (h * judge.basis.weight[:, 0]).sum((2, 3)))


def test_progressive_networks() -> None:
    """Kills: a pixel norm or an activation left out, an image of another stage, no deviation over the batch."""
    net: Any = ProgressiveGenerator(4, 3, SHAPE).double()

    def unit(h: Tensor) -> Tensor:
        return h / (h.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def layer(module: Any, h: Tensor) -> Tensor:
        return conv2d(h, module.scale * module.weight, module.bias, padding=module.weight.shape[-1] // 2)

    z = torch.randn(3, 4).double()
    h = unit(leaky((unit(z) @ (net.project.scale * net.project.weight).mT).view(3, *net.start)))
    h = unit(leaky(layer(net.first, h)))
    for block, size in zip(net.blocks, net.sizes[1:], strict=True):
        h = interpolate(h, size)
        for one in block:
            h = unit(leaky(layer(one, h)))
    torch.testing.assert_close(net(z), layer(net.images[-1], h))
    assert net.project.scale == pytest.approx(math.sqrt(2) / 4 / 2)
    assert net.images[-1].scale == pytest.approx(1 / math.sqrt(3))
    judge: Any = ProgressiveDiscriminator(2, 3, SHAPE).double()
    x = torch.randn(3, *SHAPE).double()
    h = leaky(layer(judge.images[-1], x))
    for block, size in zip(judge.blocks[::-1], judge.sizes[-2::-1], strict=True):
        for one in block:
            h = leaky(layer(one, h))
        h = torch.nn.functional.adaptive_avg_pool2d(h, size)
    deviation = (h.var(0, correction=0) + 1e-8).sqrt().mean().expand(3, 1, *h.shape[2:])
    torch.testing.assert_close(judge(x), leaky(layer(judge.last, torch.cat([h, deviation], 1))).flatten(1))


@pytest.mark.parametrize("shape", [(3,), (1, 5, 6)])
def test_the_energys_features_are_activated(shape: tuple[int, ...]) -> None:
    """Kills: the last activation left out, without which the energy is linear in the last hidden units."""
    net: Any = EnergyFeatures(shape, 2)
    assert float(net(10 * torch.randn(200, *shape)).detach().min()) >= -0.2785  # of silu, whose minimum it is


def test_the_dense_discriminators_features_are_activated() -> None:
    net = DenseDiscriminator(3, 2).double()
    h = x = torch.randn(5, 3).double()
    for layer in net.layers[::2]:  # type: ignore[index]
        h = layer(h).clamp_min(0)
    torch.testing.assert_close(net(x), h)


def test_the_masked_autoencoder() -> None:
    """Its stages and its decoder. Kills: a norm, an activation or a skip connection left out, maps in another order."""
    stage: Any = Stage(2, 16).double()
    x = torch.randn(3, *SHAPE).double()
    down = group_norm(conv2d(x, stage.down.weight, stage.down.bias, stride=2, padding=1), 2)
    h = silu(down)
    torch.testing.assert_close(
        stage(x), silu(h + group_norm(conv2d(h, stage.conv.weight, stage.conv.bias, padding=1), 2))
    )
    net: Any = MaskedAutoencoder(SHAPE, 8).double()
    fine, coarse = net(x)
    hidden = torch.zeros(3, 1, 9, 11, dtype=torch.bool)
    first, last = net.restore
    h = first(torch.cat([interpolate(silu(coarse), (5, 6)), fine], 1))
    torch.testing.assert_close(net.restored(x, hidden), last(torch.cat([interpolate(silu(h), (9, 11)), x], 1)))


def test_the_encoder_and_the_decoder_of_images() -> None:
    """With two further numbers, and several outputs for each pixel. Kills: an activation left out, one at the end."""
    net: Any = ConvEncoder(SHAPE, 3, 4, 2).double()
    x, numbers = torch.randn(3, *SHAPE).double(), torch.randn(3, 2).double()
    h = torch.cat([x, numbers[:, :, None, None].expand(-1, -1, 9, 11)], 1)
    h = silu(conv2d(h, net.first.weight, net.first.bias, padding=1))
    for conv in net.convs:
        h = silu(conv2d(h, conv.weight, conv.bias, stride=2, padding=1))
    torch.testing.assert_close(net(torch.cat([x.flatten(1), numbers], 1)), net.last(h.flatten(1)))
    back: Any = ConvDecoder(4, 3, SHAPE, 5).double()
    z = torch.randn(3, 4).double()
    h = silu(back.first(z).view(3, *back.start))
    for conv, size in zip(back.convs, ((5, 6), (9, 11)), strict=True):
        h = silu(conv2d(interpolate(h, size), conv.weight, conv.bias, padding=1))
    expected = conv2d(h, back.last.weight, back.last.bias, padding=1).view(3, 2, 5, 9, 11).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(back(z), expected.flatten(1))


def test_hes_initialisation_keeps_the_second_moment_through_rectifiers() -> None:
    """Var = 2 / inputs, biases 0, and the last layer times its factor. Kills: fan-out, gain 1, all layers times it."""
    net: Any = mlp([400, 300, 200])
    scaled(net, last=0.1)
    first, last = net[0], net[-1]
    for layer, factor in ((first, 1.0), (last, 0.1)):
        n, inputs = layer.weight.numel(), layer.in_features
        assert float(layer.weight.detach().std()) == pytest.approx(factor * (2 / inputs) ** 0.5, rel=5 / (2 * n) ** 0.5)
        assert not layer.bias.any()
