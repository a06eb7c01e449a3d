"""Causal convolutions against a sum over what may be seen, in images that are not square."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, RowConv

IMAGE = (5, 7)


def allowed(mask: str, channels: int, gates: int, outputs: int, inputs: int, up: int, right: int) -> Tensor:
    """Which of (gates * outputs, inputs) features are seen ``up`` rows above and ``right`` columns to the right."""
    if up > 0 or mask == "row":
        return torch.ones(gates * outputs, inputs)
    if mask == "above" or right > 0:
        return torch.zeros(gates * outputs, inputs)
    seen = torch.ones(gates * outputs, inputs)
    if right == 0:
        for o in range(gates * outputs):
            for i in range(inputs):
                own, other = (o % outputs) * channels // outputs, i * channels // inputs
                seen[o, i] = float(other < own or (mask == "B" and other == own))
    return seen


def by_hand(conv: CausalConv2d, x: Tensor, mask: str, channels: int, gates: int, stride: int) -> Tensor:
    """b + the sum of W[dy, dx] x[i - dy, j + dx] over all places of the image that may be seen."""
    n, inputs, height, width = x.shape
    outputs = len(conv.bias) // gates
    out = conv.bias[None, :, None, None].expand(n, -1, height, width).clone()
    for up in range(conv.weight.shape[2]):
        for column in range(conv.weight.shape[3]):
            right = column - conv.side
            weight = conv.weight[:, :, conv.weight.shape[2] - 1 - up, column]
            weight = weight * allowed(mask, channels, gates, outputs, inputs, up, right)
            for i in range(up, height):
                for j in range(max(0, -right), min(width, width - right)):
                    out[:, :, i, j] += x[:, :, i - up, j + right] @ weight.T
    return out[:, :, ::stride, ::stride]


@pytest.mark.parametrize(
    ("mask", "channels", "inputs", "outputs", "size", "options"),
    [
        ("A", 1, 2, 3, 3, {}),
        ("B", 1, 2, 3, 5, {}),
        ("above", 1, 2, 2, 3, {"gates": 2}),
        ("above", 1, 2, 2, 3, {"above": 2}),
        ("row", 1, 2, 2, 3, {"above": 1, "stride": 2}),
        ("A", 3, 3, 6, 3, {}),
        ("B", 3, 7, 5, 3, {"gates": 2}),
        ("A", 2, 2, 3, 3, {"above": 0, "gates": 4}),
        ("B", 3, 4, 6, 1, {}),
        ("B", 1, 2, 2, 3, {"above": 1, "right": 0, "stride": 2}),
    ],
)
@torch.no_grad()
def test_a_causal_convolution_is_the_sum_over_what_may_be_seen(
    mask: Any, channels: int, inputs: int, outputs: int, size: int, options: dict[str, int]
) -> None:
    """Kills: a mask of another channel, padding on another side, gates dealt to channels as features are."""
    conv = CausalConv2d(inputs, outputs, size, mask=mask, channels=channels, **options)
    x = torch.randn(2, inputs, *IMAGE)
    expected = by_hand(conv, x, mask, channels, options.get("gates", 1), options.get("stride", 1))
    assert torch.allclose(conv(x), expected, atol=1e-5)
    rows = options.get("above", size // 2) + 1
    columns = size // 2 + 1 + options.get("right", size // 2 if rows > 1 else 0)
    assert conv.weight.shape[2:] == (rows, columns)


def test_it_starts_as_torchs_own() -> None:
    """Uniform within 1 over the root of the kernel's size, whatever the mask hides of it."""
    conv = CausalConv2d(4, 50, 3, mask="A")
    bound = (4 * 2 * 3) ** -0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "mask", "options"),
    [
        (PixelConv, "A", {}),
        (PixelConv, "B", {"above": 0}),
        (PixelConv, "B", {"above": 1, "right": 0, "stride": 2}),
        (RowConv, "above", {}),
        (RowConv, "row", {"above": 1, "stride": 2}),
    ],
)
@torch.no_grad()
def test_row_by_row_and_pixel_by_pixel_it_stores_few_rows(kind: Any, mask: Any, options: dict[str, int]) -> None:
    """In an image of more rows than it sees. Kills: weights rotated the other way, or by one row less."""
    conv, cursor, x = CausalConv2d(2, 3, 5, mask=mask, **options).double(), Cursor(), torch.randn(2, 2, *IMAGE).double()
    at, found = kind(conv, 2, IMAGE, cursor), []
    for cursor.row in range(IMAGE[0]):
        if kind is RowConv:
            found.append(at(x[:, :, cursor.row : cursor.row + 1]))
            continue
        for cursor.column in range(IMAGE[1]):
            found.append(at(x[:, :, cursor.row, cursor.column]))
    kept = torch.stack([one for one in found if one is not None], -1)
    expected = conv(x)
    assert torch.allclose(
        kept.flatten(2), expected.movedim(2, -1).flatten(2) if kind is RowConv else expected.flatten(2)
    )
    assert conv.above + 1 in at.past.shape
