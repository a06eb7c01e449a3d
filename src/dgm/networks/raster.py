"""The raster order of autoregressive models: images row by row, with the channels of a pixel one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.space import Space


def to_sequence(x: Tensor, space: Space) -> Tensor:
    """(B, *shape, ...) to (B, D, ...), in raster order: images by row, column and channel, other shapes flattened.

    Example:
        >>> to_sequence(torch.arange(8).reshape(1, 2, 2, 2), Space.binary((2, 2, 2)))
        tensor([[0, 4, 1, 5, 2, 6, 3, 7]])
    """
    if len(space.shape) == 3:
        x = x.movedim(1, 3)
    return x.flatten(1, len(space.shape))


def from_sequence(s: Tensor, space: Space) -> Tensor:
    """(B, D, ...) in raster order back to (B, *shape, ...)."""
    if len(space.shape) == 3:
        channels, height, width = space.shape
        return s.unflatten(1, (height, width, channels)).movedim(3, 1)
    return s.unflatten(1, space.shape)


def raster_order(space: Space) -> list[int]:
    """The indices of the flattened dimensions of x in raster order."""
    return to_sequence(torch.arange(space.dim).reshape(1, *space.shape), space)[0].tolist()
