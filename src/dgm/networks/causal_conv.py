"""Masked convolutions of autoregressive image models, for whole images and for one pixel or one row at a time."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class CausalConv2d(nn.Module):
    """A masked convolution: the outputs at a pixel depend on the rows above it and on the pixels to its left.

    The kernel has only the rows and columns that may be used. With more than one of ``channels``, the features are
    divided among the channels of the image, and the features of channel c depend, at the same pixel, on the features of
    the channels before c, and of c itself unless ``mask`` is "A".

    Source: Pixel recurrent neural networks (van den Oord et al., 2016), arXiv:1601.06759, section 3.4 and figure 4.

    Args:
        inputs, outputs: Numbers of features; feature f belongs to channel f * channels // features.
        size: Width of the kernel, odd.
        mask: "A" excludes the pixel itself, "B" includes it, "above" includes only the rows above, and "row" also the
            whole row of the pixel, whose inputs must not depend on pixels of that row.
        above: Number of rows above, by default half the size.
        right: Number of columns to the right in the rows above, by default as many as to the left.
        stride: 2 keeps every second row and column.
        halvings: How often the resolution was halved before, for the computation pixel by pixel.
        channels: Channels of the image; with 1 every feature depends on all features.
        gates: Multiplies the number of outputs, for a gated unit.
        normed: Weight normalisation, arXiv:1602.07868, equation 2.
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
        visible = torch.ones(self.weight.shape, dtype=torch.bool)
        if mask == "above":
            visible[:, :, -1] = False
        elif mask != "row":
            visible[:, :, -1, self.side + 1 :] = False
            after, before = (torch.arange(features) * channels // features for features in (outputs, inputs))
            after = after.repeat(gates)[:, None]
            visible[:, :, -1, self.side] = before < after if mask == "A" else before <= after
        self.free = bool(visible.all())
        self.register_buffer("mask", visible, persistent=False)
        # of the unmasked weights; torch's own parametrisation would include the masked ones
        self.norm = nn.Parameter(norms(self.weight.detach() * visible)) if normed else None

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        if self.side or self.above:
            h = pad(h, (self.side, self.right, self.above, 0))
        # channels last halves the time of convolutions with few features; of a single channel torch does not infer it
        return conv2d(h, self.masked(), self.bias, self.stride).contiguous(memory_format=torch.channels_last)

    def masked(self) -> Tensor:
        weight = self.weight if self.free else self.weight * self.mask
        return weight if self.norm is None else weight * (self.norm / norms(weight))


def norms(weight: Tensor) -> Tensor:
    """The norm of the weights of each output, (outputs, 1, 1, 1)."""
    return weight.flatten(1).norm(dim=1)[:, None, None, None]


class Cursor:
    """The current pixel of a network that was made by `cached`."""

    row: int = 0
    column: int = 0


class PixelConv:
    """A `CausalConv2d` at the cursor's pixel: (B, inputs) to (B, outputs), or None where its stride skips the pixel.

    It stores the inputs of its rows: row i in place of row i - above - 1, so that the weights are rotated with the row.
    """

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        self.side, self.rows = conv.side, conv.above + 1
        self.stride, self.halvings, self.cursor, self.bias = conv.stride, conv.halvings, cursor, conv.bias
        self.taps = [weight.permute(3, 2, 1, 0).flatten(0, 2) for weight in rotated(conv)]
        width = conv.side + 1 + conv.right
        self.past = stored_rows(conv, n, size).permute(0, 3, 2, 1).contiguous()  # a pixel's columns are adjacent
        columns = self.past.shape[1]
        self.places = [[self.past[:, j, i] for i in range(self.rows)] for j in range(columns)]
        # to the right of the pixel in its row are inputs of another row, with masked weights
        self.visible = [self.past[:, j : j + width].flatten(1) for j in range(columns - width + 1)]

    def __call__(self, h: Tensor) -> Tensor | None:
        if self.side == 0 and self.rows == 1:
            return torch.addmm(self.bias, h, self.taps[0])
        self.store(h)
        i, j = self.cursor.row >> self.halvings, self.cursor.column >> self.halvings
        if i % self.stride or j % self.stride:
            return None
        return torch.addmm(self.bias, self.visible[j], self.taps[i % self.rows])

    def store(self, h: Tensor) -> None:
        i, j = self.cursor.row >> self.halvings, self.cursor.column >> self.halvings
        self.places[j + self.side][i % self.rows].copy_(h.detach())  # a view that was made before takes no gradient


class RowConv:
    """A `CausalConv2d` on the cursor's row: (B, inputs, 1, W) to (B, outputs, 1, W), or None where it skips the row.

    It stores the inputs as `PixelConv` does.
    """

    def __init__(self, conv: CausalConv2d, n: int, size: tuple[int, int], cursor: Cursor) -> None:
        self.side, self.rows, self.stride, self.halvings = conv.side, conv.above + 1, conv.stride, conv.halvings
        self.cursor, self.bias, self.weights = cursor, conv.bias, rotated(conv)
        self.past = stored_rows(conv, n, size)

    def __call__(self, h: Tensor) -> Tensor | None:
        if self.side == 0 and self.rows == 1:
            return conv2d(h, self.weights[0], self.bias)
        self.store(h)
        i = self.cursor.row >> self.halvings
        if i % self.stride:
            return None
        return conv2d(self.past, self.weights[i % self.rows], self.bias, self.stride)

    def store(self, h: Tensor) -> None:
        i = self.cursor.row >> self.halvings
        self.past[:, :, i % self.rows, self.side : self.side + h.shape[-1]] = h[:, :, 0]


def rotated(conv: CausalConv2d) -> list[Tensor]:
    """The masked weights for each row i modulo the number of rows, where row i is stored at that place."""
    weight, rows = conv.masked(), conv.above + 1
    return [weight.roll(i + 1, 2) for i in range(rows)]


def stored_rows(conv: CausalConv2d, n: int, size: tuple[int, int]) -> Tensor:
    """Zeros for the rows of inputs in the receptive field of ``conv``, with padding; ``size`` is that of the image."""
    width = -(-size[1] // 2**conv.halvings)
    return conv.weight.new_zeros(n, conv.weight.shape[1], conv.above + 1, width + conv.side + conv.right)


def cached(network: nn.Module, kind: type[PixelConv | RowConv], n: int, size: tuple[int, int], cursor: Cursor) -> Any:
    """A copy of ``network`` with the same weights, whose convolutions work pixel by pixel or row by row."""
    if isinstance(network, CausalConv2d):
        return kind(network, n, size, cursor)
    copied = copy.copy(network)
    # a convolution of one pixel is not a module, whose call and whose look-up as a part would take as long as itself
    copied._modules = {name: part and cached(part, kind, n, size, cursor) for name, part in network._modules.items()}
    vars(copied).update(copied._modules)
    return copied
