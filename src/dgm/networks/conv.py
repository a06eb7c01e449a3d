"""Convolutional networks for images of any size: a residual one, an encoder and a decoder, and a DCGAN's two."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, silu

from dgm.errors import BadInput
from dgm.networks.maps import MapsAtSizes
from dgm.transforms.coupling import beside


class ConvNet(nn.Module):
    """Residual 3×3 convolutions at one resolution, (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, blocks: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Conv2d(hidden, hidden, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(hidden, outputs, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of an image that is halved, rounding up, until one side is at most 4; the smallest first.

    Example:
        >>> sizes(28, 32)
        [(4, 4), (7, 8), (14, 16), (28, 32)]
    """
    result = [(height, width)]
    while min(result[0]) > 4:
        result.insert(0, (-(-result[0][0] // 2), -(-result[0][1] // 2)))
    return result


class ConvEncoder(nn.Module):
    """From a flattened image, with further numbers as constant planes, to a vector: strided 3×3 convolutions, then a
    linear layer.

    Each convolution halves the sides, rounding up, and doubles the ``width`` channels, as in `sizes`.

    Args:
        shape: (C, H, W) of the image.
        width: Channels at full resolution.
        outputs: Length of the vector.
        numbers: The number of further inputs.
        maps: The channels of maps of a condition, which are concatenated with the image.
    """

    def __init__(self, shape: tuple[int, ...], width: int, outputs: int, numbers: int = 0, maps: int = 0) -> None:
        super().__init__()
        self.shape, path = image_shape(shape), sizes(*shape[1:])
        widths = [width * 2**k for k in range(len(path))]
        self.first = nn.Conv2d(shape[0] + numbers + maps, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1] * math.prod(path[0]), outputs)

    def forward(self, x: Tensor, maps: Tensor | None = None) -> Tensor:
        """(B, C H W + numbers) and (B, maps, H, W) to (B, outputs)."""
        image, numbers = x.split([math.prod(self.shape), x.shape[1] - math.prod(self.shape)], 1)
        h = beside(image.unflatten(1, self.shape), numbers)
        h = silu(self.first(h if maps is None else beside(h, maps)))
        for conv in self.convs:
            h = silu(conv(h))
        return self.last(h.flatten(1))


class ConvDecoder(nn.Module):
    """From a vector to ``each`` numbers of every value of a flattened image: nearest-neighbour upsampling and
    convolutions.

    It has the sizes of `ConvEncoder` in reverse order.

    Args:
        shape: (C, H, W) of the image.
        width: Channels at full resolution.
        maps: The channels of maps of a condition, which enter at each size.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], each: int = 1, maps: int = 0) -> None:
        super().__init__()
        self.sizes, self.channels, self.each = sizes(*image_shape(shape)[1:]), shape[0], each
        widths = [width * 2**k for k in reversed(range(len(self.sizes)))]
        self.start = (widths[0], *self.sizes[0])
        self.first = nn.Linear(inputs, math.prod(self.start))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.last = nn.Conv2d(width, shape[0] * each, 3, padding=1)
        self.maps = MapsAtSizes(maps, widths, self.sizes)

    def forward(self, z: Tensor, maps: Tensor | None = None) -> Tensor:
        """(B, inputs) and (B, maps, H, W) to (B, C H W each)."""
        h = silu(self.maps(self.first(z).unflatten(1, self.start), 0, maps))
        for k, conv in enumerate(self.convs, 1):
            h = silu(self.maps(conv(interpolate(h, self.sizes[k])), k, maps))
        return self.last(h).unflatten(1, (self.channels, self.each)).movedim(2, -1).flatten(1)


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image, (C, H, W).

    Raises:
        BadInput: For any other shape.
    """
    if len(shape) != 3:
        raise BadInput(f"a convolutional network needs images, got examples of shape {shape}", "choose a dense one")
    return shape


class Generator(nn.Module):
    """From a vector to an image: nearest-neighbour upsampling, convolution, batch normalisation.

    As in all generators here, maps of a condition, if there are any, are added to the features of each size.

    Source: the architecture of DCGAN's generator (Radford et al., 2015), arXiv:1511.06434. Differs from it: upsampling
    and a 3×3 convolution in place of transposed convolutions, which cause checkerboard artifacts and need powers of
    two.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, maps: int = 0) -> None:
        super().__init__()
        channels, height, side = shape
        self.sizes = sizes(height, side)
        widths = [width * 2**k for k in reversed(range(len(self.sizes)))]
        self.first = nn.Linear(inputs, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.start = (widths[0], *self.sizes[0])
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, [*widths[1:], channels], strict=True)
        )
        self.maps = MapsAtSizes(maps, widths, self.sizes)

    def forward(self, z: Tensor, maps: Tensor | None = None) -> Tensor:
        h = self.first(z).view(-1, *self.start)
        for k, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            if k > 0:
                h = interpolate(h, self.sizes[k])
            h = conv(norm(self.maps(h, k, maps)).relu())
        return h


class Discriminator(nn.Module):
    """From images (B, inputs, H, W) to features (B, features): strided 3×3 convolutions and leaky ReLU.

    Source: the architecture of DCGAN's discriminator, arXiv:1511.06434, without its batch normalisation, so that the
    examples of a batch are independent.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        path = sizes(shape[1], shape[2])
        widths = [width * 2**k for k in range(len(path))]
        self.first = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.features = widths[-1] * path[0][0] * path[0][1]

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.first(x), 0.2)
        for conv in self.convs:
            h = leaky_relu(conv(h), 0.2)
        return h.flatten(1)
