"""Convolutions over images that see only what was read before, and the same one pixel or one row at a time."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class CausalConv2d(nn.Module):
    """A convolution of which a pixel's outputs see the rows above it and the pixels to its left.

    The kernel has only the rows that may be seen. With ``channels`` of more than 1, features are dealt in turn to the
    image's channels, and those of channel c see, at their own pixel, the features of channels before c, and of c
    itself unless ``mask`` is "A".

    Source: Pixel recurrent neural networks (van den Oord et al., 2016), arXiv:1601.06759, section 3.4 and figure 4.

    Args:
        inputs, outputs: Features, of which feature f belongs to channel f * channels // features.
        size: Side of the paper's square kernel, odd.
        mask: "A" hides the pixel itself, "B" shows it, "rows" shows the rows above alone.
        channels: Of the image; 1 lets every feature see every other.
        gates: How many times ``outputs`` features come out, one after the other, for a gated unit.
    """

    mask: Tensor
    bias: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        mask: Literal["A", "B", "rows"],
        channels: int = 1,
        gates: int = 1,
    ) -> None:
        super().__init__()
        self.side = size // 2
        conv = nn.Conv2d(inputs, gates * outputs, (self.side + 1, size))
        self.weight, self.bias = conv.weight, conv.bias  # type: ignore[assignment]
        seen = torch.ones(self.weight.shape, dtype=torch.bool)
        seen[:, :, -1, self.side + (0 if mask == "rows" else 1) :] = False
        if mask == "rows":
            seen[:, :, -1] = False
        else:
            after, before = (torch.arange(features) * channels // features for features in (outputs, inputs))
            after = after.repeat(gates)[:, None]
            seen[:, :, -1, self.side] = before < after if mask == "A" else before <= after
        self.register_buffer("mask", seen, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return conv2d(self.padded(h), self.masked(), self.bias)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def padded(self, h: Tensor) -> Tensor:
        return pad(h, (self.side, self.side, self.side, 0)) if self.side else h


class Cursor:
    """The pixel at which a `by_pixel` or `by_row` network stands."""

    row: int = 0
    column: int = 0


class PixelConv(nn.Module):
    """A `CausalConv2d` at the cursor's pixel: (B, inputs) to (B, outputs). It remembers the pixels it was given."""

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        super().__init__()
        self.side, self.cursor, self.bias = conv.side, cursor, conv.bias
        outputs, inputs, rows, columns = conv.weight.shape
        taps = conv.masked().permute(2, 3, 1, 0).reshape(rows * columns, inputs, outputs)
        # what is right of the pixel in its own row is not there yet
        self.taps = taps[: len(taps) - self.side].flatten(0, 1)
        self.past = taps.new_zeros(n, size[0] + self.side, size[1] + 2 * self.side, inputs)

    def forward(self, h: Tensor) -> Tensor:
        if self.side == 0:
            return torch.addmm(self.bias, h, self.taps)
        self.remember(h)
        i, j, side = self.cursor.row, self.cursor.column, self.side
        above = self.past[:, i : i + side, j : j + 2 * side + 1].flatten(1)
        beside = self.past[:, i + side, j : j + side + 1].flatten(1)
        return torch.addmm(self.bias, torch.cat([above, beside], 1), self.taps)

    def remember(self, h: Tensor) -> None:
        self.past[:, self.cursor.row + self.side, self.cursor.column + self.side] = h


class RowConv(nn.Module):
    """A `CausalConv2d` on the cursor's row: (B, inputs, 1, W) to (B, outputs, 1, W). It remembers the rows above."""

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        super().__init__()
        self.side, self.cursor, self.bias, self.weight = conv.side, cursor, conv.bias, conv.masked()
        self.past = self.weight.new_zeros(n, self.weight.shape[1], size[0] + self.side, size[1] + 2 * self.side)

    def forward(self, h: Tensor) -> Tensor:
        i, side = self.cursor.row, self.side
        self.past[:, :, i + side, side : side + h.shape[-1]] = h[:, :, 0]
        return conv2d(self.past[:, :, i : i + side + 1], self.weight, self.bias)


def cached(
    network: nn.Module, kind: type[PixelConv | RowConv], n: int, size: tuple[int, int], cursor: Cursor
) -> nn.Module:
    """A copy of ``network`` with the same formulas and weights, whose convolutions work by the pixel or by the row."""
    if isinstance(network, CausalConv2d):
        return kind(network, n, size, cursor)
    again = copy.copy(network)
    again._modules = {name: part and cached(part, kind, n, size, cursor) for name, part in network._modules.items()}
    return again
