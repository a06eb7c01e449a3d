"""Convolutions over images that see only what was read before, and the same one pixel or one row at a time."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class CausalConv2d(nn.Module):
    """A convolution of which a pixel's outputs see the rows above it and the pixels to its left.

    The kernel has only the rows and columns that may be seen. With ``channels`` of more than 1, features are dealt in
    turn to the image's channels, and those of channel c see, at their own pixel, the features of channels before c, and
    of c itself unless ``mask`` is "A".

    Source: Pixel recurrent neural networks (van den Oord et al., 2016), arXiv:1601.06759, section 3.4 and figure 4.

    Args:
        inputs, outputs: Features, of which feature f belongs to channel f * channels // features.
        size: Columns of the kernel, odd: a pixel's own and as many to the left as to the right.
        mask: "A" hides the pixel itself, "B" shows it, "above" shows the rows above alone, and "row" the pixel's whole
            row too, which no pixel of that row may have shaped.
        above: Rows above that are seen, half the size where not given.
        right: Columns to the right that are seen in the rows above, as many as to the left where not given.
        stride: 2 keeps every second row and column.
        halvings: How often the image was halved before, which a network that goes pixel by pixel has to know.
        channels: Of the image; 1 lets every feature see every other.
        gates: How many times ``outputs`` features come out, one after the other, for a gated unit.
        normed: Learns the norm of each output's weights apart from their direction: weight normalisation,
            arXiv:1602.07868, equation 2.
    """

    mask: Tensor
    bias: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        mask: Literal["A", "B", "above", "row"],
        above: int | None = None,
        right: int | None = None,
        stride: int = 1,
        halvings: int = 0,
        channels: int = 1,
        gates: int = 1,
        normed: bool = False,
    ) -> None:
        super().__init__()
        self.side = size // 2
        self.above = self.side if above is None else above
        self.right = (self.side if self.above else 0) if right is None else right
        self.stride, self.halvings = stride, halvings
        conv = nn.Conv2d(inputs, gates * outputs, (self.above + 1, self.side + 1 + self.right))
        self.weight, self.bias = conv.weight, conv.bias  # type: ignore[assignment]
        seen = torch.ones(self.weight.shape, dtype=torch.bool)
        if mask == "above":
            seen[:, :, -1] = False
        elif mask != "row":
            seen[:, :, -1, self.side + 1 :] = False
            after, before = (torch.arange(features) * channels // features for features in (outputs, inputs))
            after = after.repeat(gates)[:, None]
            seen[:, :, -1, self.side] = before < after if mask == "A" else before <= after
        self.free = bool(seen.all())
        self.register_buffer("mask", seen, persistent=False)
        # of the weights that are seen; torch's own parametrisation would count those that the mask hides
        self.norm = nn.Parameter(norms(self.weight.detach() * seen)) if normed else None

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        if self.side or self.above:
            h = pad(h, (self.side, self.right, self.above, 0))
        # channels last halves the time of convolutions of few features, and one channel alone hides its layout
        return conv2d(h, self.masked(), self.bias, self.stride).contiguous(memory_format=torch.channels_last)

    def masked(self) -> Tensor:
        weight = self.weight if self.free else self.weight * self.mask
        return weight if self.norm is None else weight * (self.norm / norms(weight))


def norms(weight: Tensor) -> Tensor:
    """Of the weights of each output, (outputs, 1, 1, 1)."""
    return weight.flatten(1).norm(dim=1)[:, None, None, None]


class Cursor:
    """The pixel at which a network stands that was made by `cached`."""

    row: int = 0
    column: int = 0


class PixelConv(nn.Module):
    """A `CausalConv2d` at the cursor's pixel: (B, inputs) to (B, outputs), or None where its stride skips the pixel.

    It remembers the pixels it was given.
    """

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        super().__init__()
        self.side, self.right, self.above = conv.side, conv.right, conv.above
        self.stride, self.halvings, self.cursor, self.bias = conv.stride, conv.halvings, cursor, conv.bias
        self.taps = conv.masked().permute(2, 3, 1, 0).flatten(0, 2)
        self.past = padded_map(conv, n, size).movedim(1, -1).contiguous()

    def forward(self, h: Tensor) -> Tensor | None:
        if self.side == self.above == 0:
            return torch.addmm(self.bias, h, self.taps)
        self.remember(h)
        i, j = self.cursor.row >> self.halvings, self.cursor.column >> self.halvings
        if i % self.stride or j % self.stride:
            return None
        # what is right of the pixel in its own row is not there yet: zeros, which the mask gives no weight
        seen = self.past[:, i : i + self.above + 1, j : j + self.side + 1 + self.right].flatten(1)
        return torch.addmm(self.bias, seen, self.taps)

    def remember(self, h: Tensor) -> None:
        self.past[
            :, (self.cursor.row >> self.halvings) + self.above, (self.cursor.column >> self.halvings) + self.side
        ] = h


class RowConv(nn.Module):
    """A `CausalConv2d` on the cursor's row: (B, inputs, 1, W) to (B, outputs, 1, W), or None where it skips the row.

    It remembers the rows above.
    """

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        super().__init__()
        self.side, self.above, self.stride, self.halvings = conv.side, conv.above, conv.stride, conv.halvings
        self.cursor, self.bias, self.weight = cursor, conv.bias, conv.masked()
        self.past = padded_map(conv, n, size)

    def forward(self, h: Tensor) -> Tensor | None:
        if self.side == self.above == 0:
            return conv2d(h, self.weight, self.bias)
        self.remember(h)
        i = self.cursor.row >> self.halvings
        if i % self.stride:
            return None
        return conv2d(self.past[:, :, i : i + self.above + 1], self.weight, self.bias, self.stride)

    def remember(self, h: Tensor) -> None:
        i = (self.cursor.row >> self.halvings) + self.above
        self.past[:, :, i, self.side : self.side + h.shape[-1]] = h[:, :, 0]


def padded_map(conv: CausalConv2d, n: int, size: tuple[int, int]) -> Tensor:
    """Zeros for all inputs of ``conv`` on images of ``size`` before they were halved, and for the padding."""
    height, width = (-(-side // 2**conv.halvings) for side in size)
    return conv.weight.new_zeros(n, conv.weight.shape[1], height + conv.above, width + conv.side + conv.right)


def cached(
    network: nn.Module, kind: type[PixelConv | RowConv], n: int, size: tuple[int, int], cursor: Cursor
) -> nn.Module:
    """A copy of ``network`` with the same formulas and weights, whose convolutions work by the pixel or by the row."""
    if isinstance(network, CausalConv2d):
        return kind(network, n, size, cursor)
    again = copy.copy(network)
    again._modules = {name: part and cached(part, kind, n, size, cursor) for name, part in network._modules.items()}
    return again
