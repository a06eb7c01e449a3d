"""The transformer over patches: its positions, its blocks' identity, its patches' order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, multi_head_attention_forward

from dgm.errors import BadInput
from dgm.networks.dit import Block, DiT, sincos_positions


def perturbed(net: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.double()


def test_an_untrained_block_is_the_identity_and_hears_no_condition() -> None:
    torch.manual_seed(0)
    block, h = Block(8, 2, 4, 0.0), torch.randn(2, 3, 8)
    assert torch.equal(block(h, torch.randn(2, 4)), h)


def test_a_block_is_the_sources_formula() -> None:
    block, h, c = perturbed(Block(8, 2, 4, 0.0)), torch.randn(2, 3, 8).double(), torch.randn(2, 4).double()
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(c)[:, None].split(8, -1)
    into = (layer_norm(h, (8,), eps=1e-6) * (1 + scale_1) + shift_1).transpose(0, 1)
    seen, _ = multi_head_attention_forward(
        *(into, into, into, 8, 2, block.qkv.weight, block.qkv.bias, None, None, False, 0.0),
        *(block.out.weight, block.out.bias),
        need_weights=False,
    )
    expected = h + gate_1 * seen.transpose(0, 1)
    expected = expected + gate_2 * block.mlp(layer_norm(expected, (8,), eps=1e-6) * (1 + scale_2) + shift_2)
    torch.testing.assert_close(block(h, c), expected)


def test_positions_are_the_formula() -> None:
    found = sincos_positions((2, 3), 8)
    for row in range(2):
        for column in range(3):
            angles = [[place * 10_000 ** (-k / 2) for k in range(2)] for place in (column, row)]
            expected = [f(a) for half in angles for f in (math.sin, math.cos) for a in half]
            torch.testing.assert_close(found[3 * row + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_a_patch_comes_out_where_it_went_in() -> None:
    net = perturbed(DiT((6, 4), 1, 1, width=8, condition=4, blocks=0, patch=2))
    x, condition = torch.randn(1, 1, 6, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, condition).sum((0, 1)), x)[:, :, 0, 0]
    rows, columns = torch.arange(6) // 2, torch.arange(4) // 2
    same = (rows[:, None, None, None] == rows[:, None]) & (columns[:, None, None] == columns)
    assert torch.equal(jacobian != 0, same)


def test_every_output_hears_every_input_and_the_condition() -> None:
    net = perturbed(DiT((7, 5), 2, 3, width=8, condition=4, blocks=2))
    x = torch.randn(1, 2, 7, 5, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    y = net(x, condition)
    assert y.shape == (1, 3, 7, 5)
    heard = torch.autograd.grad(y[0, 0, -1, -1], (x, condition))
    assert all((gradient != 0).all() for gradient in heard)


def test_places_are_told_apart() -> None:
    net = perturbed(DiT((4, 4), 1, 1, width=8, condition=4, blocks=1))
    out = net(torch.zeros(1, 1, 4, 4).double(), torch.zeros(1, 4).double())
    corners = torch.stack([out[0, 0, i, j] for i in (0, 2) for j in (0, 2)])
    assert (corners[:, None] - corners).abs().fill_diagonal_(1).min() > 1e-6


def test_an_example_does_not_hear_the_others() -> None:
    net = perturbed(DiT((4, 4), 2, 2, width=8, condition=4, blocks=1))
    x, condition = torch.randn(4, 2, 4, 4).double(), torch.randn(4, 4).double()
    torch.testing.assert_close(net(x, condition)[2:3], net(x[2:3], condition[2:3]))


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="multiple of 4 and of 3 heads"):
        DiT((4, 4), 1, 1, width=8, condition=4, heads=3)
