"""The U-Net's reach, by autodiff, and that an example is its own affair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import multi_head_attention_forward

from dgm.errors import BadInput
from dgm.networks.unet import ResidualBlock, SelfAttention, UNet


def perturbed(net: nn.Module) -> Any:
    """In float64, with weights at random where they start at zero."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return net.double()


def unet(size: tuple[int, int], **options: Any) -> Any:
    torch.manual_seed(0)
    return perturbed(UNet(size, 2, 3, width=8, condition=4, **options))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((3, 3), {}),
        ((8, 8), {}),
        ((9, 5), {}),
        ((28, 28), {}),
        ((1, 17), {}),
        ((8, 8), {"multipliers": (2, 1, 3), "blocks": (1, 2, 3), "attention": 4}),
        ((8, 8), {"multipliers": (1, 2, 2), "blocks": 2, "attention": 0}),
    ],
)
def test_every_output_hears_every_input_and_the_condition(size: tuple[int, int], options: dict[str, Any]) -> None:
    net = unet(size, **options)
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    y = net(x, condition)
    assert y.shape == (1, 3, *size)
    for corner in ((0, 0), (-1, -1)):
        heard = torch.autograd.grad(y[0, 0, corner[0], corner[1]], (x, condition), retain_graph=True)
        assert all((gradient != 0).all() for gradient in heard)


def test_skips_go_around_the_lower_resolutions() -> None:
    net, condition = unet((8, 8)), torch.zeros(1, 4, dtype=torch.float64)
    net.up[0].register_forward_hook(lambda module, arguments, output: torch.zeros_like(output))
    x = torch.randn(2, 1, 2, 8, 8, dtype=torch.float64)
    assert (net(x[0], condition) - net(x[1], condition)).abs().min() > 0


def test_the_given_levels_blocks_and_attention_are_built() -> None:
    net = UNet((32, 32), 1, 1, width=32, condition=8, multipliers=(1, 2, 2), blocks=(1, 2, 3), attention=8)
    blocks = [*net.down, *net.middle, *net.up]
    assert [block.conv_2.out_channels for block in blocks] == [32] + [64] * 11 + [32] * 2  # type: ignore[union-attr]
    attends = [isinstance(block.attention, SelfAttention) for block in blocks]
    assert attends == [False] * 3 + [True] * 8 + [False] * 3
    x, sides = torch.zeros(1, 1, 32, 32), []
    for block in blocks:
        block.register_forward_hook(lambda module, arguments, output: sides.append(output.shape[-1]))
    net(x, torch.zeros(1, 8))
    assert sides == [32, 16, 16] + [8] * 8 + [16, 16, 32]
    with pytest.raises(BadInput, match="3 resolutions, got 2"):
        UNet((32, 32), 1, 1, width=32, condition=8, multipliers=(1, 2, 2), blocks=(1, 2))


def test_pixels_look_at_each_other_at_the_lowest_resolution_alone_unless_told_otherwise() -> None:
    """Of 16 × 12 pixels, at 4 × 3. Kills: attention at all levels, or at none."""
    net = UNet((16, 12), 1, 1, width=8, condition=4)
    seen = {}
    for block in [*net.down, *net.middle, *net.up]:
        attends = isinstance(block.attention, SelfAttention)
        block.conv_1.register_forward_hook(
            lambda module, given, out, attends=attends: seen.setdefault(out.shape[-2:], set()).add(attends)
        )
    net(torch.zeros(1, 1, 16, 12), torch.zeros(1, 4))
    assert seen == {(16, 12): {False}, (8, 6): {False}, (4, 3): {True}}


def test_an_example_does_not_hear_the_others() -> None:
    net, x, condition = unet((8, 8)), torch.randn(4, 2, 8, 8).double(), torch.randn(4, 4).double()
    torch.testing.assert_close(net(x, condition)[2:3], net(x[2:3], condition[2:3]))


def test_an_image_is_padded_by_its_edge() -> None:
    net, x, condition = (
        unet((7, 6), multipliers=(1, 1, 1)),
        torch.randn(2, 2, 7, 6).double(),
        torch.randn(2, 4).double(),
    )
    padded = torch.cat([x, x[..., -1:, :]], 2)
    padded = torch.cat([padded, padded[..., -1:], padded[..., -1:]], 3)
    torch.testing.assert_close(net(x, condition), net(padded, condition)[..., :7, :6])


@pytest.mark.parametrize("after", [8, 16])
def test_an_untrained_block_is_its_skip(after: int) -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(8, after, 4, attention=True, resample=nn.Identity(), dropout=0.0), torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x, torch.randn(2, 4)), block.residual(x))


def test_dropout_is_of_training_alone() -> None:
    net, x, condition = unet((8, 8), dropout=0.5), torch.randn(4, 2, 8, 8).double(), torch.randn(4, 4).double()
    assert not torch.equal(net(x, condition), net(x, condition))
    net.eval()
    assert torch.equal(net(x, condition), net(x, condition))


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    layer, x = perturbed(SelfAttention(8)), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    sequence = layer.norm(x).flatten(2).permute(2, 0, 1)
    expected, _ = multi_head_attention_forward(
        *(sequence, sequence, sequence, 8, 1, layer.qkv.weight[..., 0, 0], layer.qkv.bias, None, None, False, 0.0),
        *(layer.out.weight[..., 0, 0], layer.out.bias),
        need_weights=False,
    )
    torch.testing.assert_close(layer(x), x + expected.permute(1, 2, 0).reshape(x.shape))


def test_a_width_that_has_no_eighth_is_refused() -> None:
    with pytest.raises(BadInput, match="multiple of 8"):
        UNet((8, 8), 1, 1, width=12, condition=4)
