"""Convolutional networks between an image and a vector, with strided convolutions and without normalisation."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from dgm.networks.conv import sizes
from dgm.transforms.coupling import beside


class ConvEncoder(nn.Module):
    """From an image, with further numbers as constant planes, to a vector.

    Args:
        shape: (C, H, W) of the image.
        numbers: The number of further inputs.
        width: Channels at full resolution, doubled at each halving.
        outputs: Length of the vector.
    """

    def __init__(self, shape: tuple[int, ...], numbers: int, width: int, outputs: int) -> None:
        super().__init__()
        self.shape = shape
        path = sizes(shape[1], shape[2])
        widths = [width * 2**k for k in range(len(path))]
        self.first = nn.Conv2d(shape[0] + numbers, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1] * math.prod(path[0]), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C H W + numbers) to (B, outputs)."""
        image, numbers = x.split([math.prod(self.shape), x.shape[1] - math.prod(self.shape)], 1)
        h = silu(self.first(beside(image.unflatten(1, self.shape), numbers)))
        for conv in self.convs:
            h = silu(conv(h))
        return self.last(h.flatten(1))


class ConvDecoder(nn.Module):
    """From a vector to ``each`` numbers of every value of an image: nearest-neighbour upsampling and convolutions.

    Args:
        shape: (C, H, W) of the image.
        width: Channels at full resolution, doubled at each halving.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], each: int) -> None:
        super().__init__()
        self.sizes, self.channels, self.each = sizes(shape[1], shape[2]), shape[0], each
        widths = [width * 2**k for k in reversed(range(len(self.sizes)))]
        self.start = (widths[0], *self.sizes[0])
        self.first = nn.Linear(inputs, math.prod(self.start))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], shape[0] * each, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, inputs) to (B, C H W each)."""
        h = silu(self.first(z)).unflatten(1, self.start)
        for conv, size in zip(self.convs, self.sizes[1:], strict=True):
            h = silu(conv(interpolate(h, size)))
        return self.last(h).unflatten(1, (self.channels, self.each)).movedim(2, -1).flatten(1)
