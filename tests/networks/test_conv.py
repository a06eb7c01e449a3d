"""Convolutional networks written out, on images that are not square."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, interpolate

from dgm.networks.conv import ConvDecoder, ConvEncoder, ConvNet, Discriminator, Generator, sizes
from dgm.networks.mlp import mlp


def silu(h: torch.Tensor) -> torch.Tensor:
    return h * h.sigmoid()


def test_the_residual_network_is_its_formula() -> None:
    """Kills: a nonlinearity or the residual connection left out, a block lost."""
    net, x = ConvNet(2, 3, 4, blocks=2), torch.randn(2, 2, 4, 5)
    h = net.first(x)
    for block in net.blocks:
        first, second = (layer for layer in block if isinstance(layer, nn.Conv2d))
        h = h + second(silu(first(silu(h))))
    last = net.last[-1]
    assert torch.allclose(net(x), conv2d(silu(h), last.weight, last.bias, padding=1), atol=1e-6)


def test_sides_are_halved_until_one_is_at_most_four() -> None:
    assert sizes(4, 9) == [(4, 9)]
    assert sizes(5, 9) == [(3, 5), (5, 9)]
    assert sizes(17, 33) == [(3, 5), (5, 9), (9, 17), (17, 33)]


def test_to_go_up_is_to_repeat_pixels_normalise_rectify_and_convolve() -> None:
    net, z = Generator(4, 2, (3, 5, 9)), torch.randn(6, 4)
    h = net.first(z).view(6, 4, 3, 5)  # two sizes, of 2 * 2 and 2 features
    mean, var = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), correction=0, keepdim=True)
    h = net.convs[0](((h - mean) / (var + 1e-5).sqrt()).clamp_min(0))
    rows, columns = (torch.arange(side) * low // side for side, low in ((5, 3), (9, 5)))
    h = h[:, :, rows][..., columns]
    h = net.convs[1](batch_norm(h, None, None, training=True).clamp_min(0))
    assert torch.allclose(net(z), h, atol=1e-5)


def test_to_go_down_is_to_convolve() -> None:
    """Kills: another slope, a stride, a layer left out."""
    net = Discriminator(3, 2, (3, 9, 5))
    x = torch.randn(4, 3, 9, 5)
    h = conv2d(x, net.first.weight, net.first.bias, padding=1)
    assert len(net.convs) == 1
    h = conv2d(torch.where(h > 0, h, 0.2 * h), net.convs[0].weight, net.convs[0].bias, stride=2, padding=1)
    assert torch.allclose(net(x), torch.where(h > 0, h, 0.2 * h).flatten(1), atol=1e-5)


def test_a_perceptron_has_silu_and_dropout_between_its_layers_alone() -> None:
    net, x = mlp([3, 5, 4, 2]), torch.randn(6, 3)
    first, second, third = (layer for layer in net if isinstance(layer, nn.Linear))
    assert torch.allclose(net(x), third(silu(second(silu(first(x))))), atol=1e-6)
    kinds = [type(layer) for layer in mlp([3, 5, 4, 2], dropout=0.5)]
    assert kinds == [nn.Linear, nn.SiLU, nn.Dropout, nn.Linear, nn.SiLU, nn.Dropout, nn.Linear]


def test_a_decoder_has_each_value_s_numbers_last() -> None:
    """``each`` channels of the last convolution belong to one value. Kills: one number a value, values last."""
    net = ConvDecoder(3, 4, (2, 4, 6), each=5)
    maps = list[torch.Tensor]()
    net.last.register_forward_hook(lambda _, __, found: maps.append(found))
    found = net(torch.randn(7, 3)).view(7, 2, 4, 6, 5)
    assert maps[0].shape == (7, 10, 4, 6)
    torch.testing.assert_close(found[:, 1, :, :, 3], maps[0][:, 8])


def test_an_encoder_has_silu_after_every_convolution() -> None:
    """Of an image beside planes of a number and maps of a condition. Kills: any activation left out."""
    net: Any = ConvEncoder((2, 5, 8), 3, 4, numbers=1, maps=2).double()
    x, number, maps = (torch.randn(6, *shape, dtype=torch.float64) for shape in ((2, 5, 8), (1,), (2, 5, 8)))
    planes = number[:, :, None, None].expand(-1, -1, 5, 8)
    h = silu(conv2d(torch.cat([x, planes, maps], 1), net.first.weight, net.first.bias, padding=1))
    (conv,) = net.convs
    h = silu(conv2d(h, conv.weight, conv.bias, padding=1, stride=2))
    torch.testing.assert_close(net(torch.cat([x.flatten(1), number], 1), maps), net.last(h.flatten(1)))


def test_a_decoder_has_silu_after_the_sum_with_the_maps_of_each_size() -> None:
    """Kills: any activation left out, or maps that are added after it or at one size alone."""
    net: Any = ConvDecoder(4, 3, (2, 5, 8), maps=2).double()
    z = torch.randn(6, 4, dtype=torch.float64)
    maps = torch.randn(6, 2, 1, 1, dtype=torch.float64)
    low, high = (torch.einsum("oi,bihw->bohw", projection.weight, maps) for projection in net.maps.projections)
    h = silu(net.first(z).view(6, 6, 3, 4) + low)
    (conv,) = net.convs
    h = silu(conv2d(interpolate(h, (5, 8)), conv.weight, conv.bias, padding=1) + high)
    h = conv2d(h, net.last.weight, net.last.bias, padding=1)
    torch.testing.assert_close(net(z, maps.expand(-1, -1, 5, 8)), h.flatten(1))
