"""The U-Net's reach, by autodiff, and that an example is its own affair."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import multi_head_attention_forward

from dgm.errors import BadInput
from dgm.networks.denoiser import Denoiser
from dgm.networks.unet import SelfAttention, UNet


def perturbed_unet(size: tuple[int, int]) -> UNet:
    torch.manual_seed(0)
    net = UNet(size, 2, 3, width=8, condition=4)
    torch.nn.init.normal_(net.head.weight)
    return net.double()


@pytest.mark.parametrize("size", [(3, 3), (8, 8), (9, 5), (28, 28), (1, 17)])
def test_every_output_hears_every_input_and_the_condition(size: tuple[int, int]) -> None:
    net = perturbed_unet(size)
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    y = net(x, condition)
    assert y.shape == (1, 3, *size)
    for corner in ((0, 0), (-1, -1)):
        heard = torch.autograd.grad(y[0, 0, corner[0], corner[1]], (x, condition), retain_graph=True)
        assert all((gradient != 0).all() for gradient in heard)


def test_skips_go_around_the_lower_resolutions() -> None:
    net, condition = perturbed_unet((8, 8)), torch.zeros(1, 4, dtype=torch.float64)
    net.up[0].register_forward_hook(lambda module, arguments, output: torch.zeros_like(output))
    x = torch.randn(2, 1, 2, 8, 8, dtype=torch.float64)
    assert (net(x[0], condition) - net(x[1], condition)).abs().min() > 0


def test_an_example_does_not_hear_the_others() -> None:
    net, x, condition = perturbed_unet((8, 8)), torch.randn(4, 2, 8, 8).double(), torch.randn(4, 4).double()
    torch.testing.assert_close(net(x, condition)[2:3], net(x[2:3], condition[2:3]))


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(8).double(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    sequence = layer.norm(x).flatten(2).permute(2, 0, 1)
    expected, _ = multi_head_attention_forward(
        *(sequence, sequence, sequence, 8, 1, layer.qkv.weight[..., 0, 0], layer.qkv.bias, None, None, False, 0.0),
        *(layer.out.weight[..., 0, 0], layer.out.bias),
        need_weights=False,
    )
    torch.testing.assert_close(layer(x, x), x + expected.permute(1, 2, 0).reshape(x.shape))


@pytest.mark.parametrize("shape", [(5,), (1, 4, 4), (6, 2)])
def test_untrained_denoiser_says_zero_and_trained_one_hears_time_and_label(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net, x, t = Denoiser(shape, width=8, classes=2), torch.randn(3, *shape), torch.tensor([0.1, 0.5, 0.9])
    y = torch.tensor([0, 1, 1])
    torch.testing.assert_close(net(x, t, y), torch.zeros(3, *shape))
    torch.nn.init.normal_(net.body.head.weight)
    assert ((net(x, t, y) - net(x, t, 1 - y)).flatten(1).abs().max(1).values > 1e-4).all()
    assert ((net(x, t, y) - net(x, 1 - t, y)).flatten(1).abs().max(1).values[[0, 2]] > 1e-4).all()


def test_a_width_that_has_no_eighth_is_refused() -> None:
    with pytest.raises(BadInput, match="multiple of 8"):
        UNet((8, 8), 1, 1, width=12, condition=4)
