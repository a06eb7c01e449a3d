"""Feature maps of a condition inside a network: at the size, at the row and at the pixel where a layer needs them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """The maps (B, C, H, W), interpolated to another size where theirs differs."""
    return maps if maps.shape[2:] == size else interpolate(maps, size, mode="bilinear", antialias=True)


def per_channel(bias: Tensor, h: Tensor) -> Tensor:
    """A vector (B, C) in a shape that broadcasts against h (B, C, ...), the same at every position; or maps."""
    return bias.view(*bias.shape, *[1] * (h.ndim - bias.ndim))


def of_row(c: Tensor | None, row: int) -> Tensor | None:
    """The maps at one row, (B, C, 1, W); a vector or a label is the same in all rows."""
    return c if c is None or c.ndim < 4 else c[:, :, row : row + 1]


def of_pixel(c: Tensor | None, row: int, column: int) -> Tensor | None:
    """The maps at one pixel, (B, C); a vector or a label is the same at all pixels."""
    return c if c is None or c.ndim < 4 else c[:, :, row, column]


class Projection(nn.Linear):
    """A linear map of the channels, of a vector (B, C) or of maps (B, C, H, W)."""

    def forward(self, c: Tensor) -> Tensor:
        return super().forward(c.movedim(1, -1)).movedim(-1, 1)


class MapsAtSizes(nn.Module):
    """Maps of a condition for a network of several sizes: at each, a projection of the interpolated maps is added.

    Args:
        channels: The channels of the maps; 0 for a network without a condition.
        widths: The channels of the network at each of its sizes.
        sizes: (H, W) of each.
    """

    def __init__(self, channels: int, widths: Sequence[int], sizes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.sizes = sizes
        self.projections = nn.ModuleList(Projection(channels, width, bias=False) for width in widths if channels)

    def forward(self, h: Tensor, k: int, maps: Tensor | None) -> Tensor:
        """h (B, widths[k], *sizes[k]) with the projection of the maps (B, channels, H, W)."""
        return h if maps is None else h + self.projections[k](resized(maps, self.sizes[k]))
