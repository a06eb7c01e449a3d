"""The generator and the discriminator of progressive growing, whose resolution rises in training."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu, linear

from dgm.networks.conv import sizes
from dgm.networks.maps import MapsAtSizes

SLOPE = 0.2
GAIN = math.sqrt(2)
EPS = 1e-8


class Equalised(nn.Module):
    """A linear layer or a convolution whose weights are scaled by He's constant at run time.

    w = c w', w' from N(0, 1), c = gain / sqrt(fan-in), so that the learning rate is the same for all weights.

    Source: Progressive Growing of GANs (Karras et al., 2017), arXiv:1710.10196, section 4.1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 0, *, gain: float = GAIN) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel, kernel) if kernel else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(self.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scale * self.weight
        if weight.ndim == 2:
            return linear(x, weight, self.bias)
        return conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


def pixel_norm(x: Tensor) -> Tensor:
    """x over the root mean square of its channels, at each pixel; section 4.2."""
    return x * (x.square().mean(1, keepdim=True) + EPS).rsqrt()


def with_deviation(x: Tensor) -> Tensor:
    """x and one more channel: the standard deviation over the batch, averaged over all features; section 3."""
    deviation = (x.var(0, unbiased=False) + EPS).sqrt().mean()
    return torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], 1)


class Growing(nn.Module):
    """A network of stages, of which the first ``grown`` are there: a number such as 1.3, whose fraction fades in.

    Attributes:
        grown: From 0, the smallest size alone, to the number of sizes less 1, which it has unless a model sets it.
    """

    grown: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes(*shape[1:])
        self.register_buffer("grown", torch.tensor(float(len(self.sizes) - 1)))

    @property
    def stage(self) -> tuple[int, float]:
        """The number of the last stage, and its weight in (0, 1]."""
        last = math.ceil(float(self.grown))
        return last, 1 - (last - float(self.grown))


class ProgressiveGenerator(Growing):
    """From vectors (B, inputs) to images (B, *shape): the image of the last stage, interpolated to the full size.

    While a stage fades in with weight alpha, the image is alpha times its own and 1 - alpha times the image of the
    stage before, upsampled.

    Source: arXiv:1710.10196, sections 2 and 4, figure 2 and table 2. Differs from it: the sizes
    follow that of the data.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, maps: int = 0) -> None:
        super().__init__(shape)
        widths = [width * 2**k for k in reversed(range(len(self.sizes)))]
        self.start = (widths[0], *self.sizes[0])
        self.project = Equalised(inputs, math.prod(self.start), gain=GAIN / 4)
        self.first = Equalised(widths[0], widths[0], 3)
        self.blocks: Any = nn.ModuleList(
            nn.ModuleList([Equalised(before, after, 3), Equalised(after, after, 3)])
            for before, after in pairwise(widths)
        )
        self.images: Any = nn.ModuleList(Equalised(width, shape[0], 1, gain=1.0) for width in widths)
        self.maps = MapsAtSizes(maps, [widths[0], *widths[:-1]], self.sizes)

    def forward(self, z: Tensor, maps: Tensor | None = None) -> Tensor:
        last, weight = self.stage
        h = pixel_norm(leaky_relu(self.project(pixel_norm(z)).view(-1, *self.start), SLOPE))
        h = before = activated(self.first, self.maps(h, 0, maps))
        for k in range(last):
            before, h = h, self.maps(interpolate(h, self.sizes[k + 1]), k + 1, maps)
            for layer in self.blocks[k]:
                h = activated(layer, h)
        x = self.images[last](h)
        if weight < 1:
            x = weight * x + (1 - weight) * interpolate(self.images[last - 1](before), self.sizes[last])
        return interpolate(x, self.sizes[-1])


def activated(layer: nn.Module, h: Tensor) -> Tensor:
    return pixel_norm(leaky_relu(layer(h), SLOPE))


class ProgressiveDiscriminator(Growing):
    """From images (B, inputs, H, W) of the full size to features (B, features): see `ProgressiveGenerator`.

    Its last stage has the deviation over the batch as a feature, so that an example's output depends on the others.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        widths = [width * 2**k for k in reversed(range(len(self.sizes)))]
        self.images: Any = nn.ModuleList(Equalised(inputs, width, 1) for width in widths)
        self.blocks: Any = nn.ModuleList(
            nn.ModuleList([Equalised(before, before, 3), Equalised(before, after, 3)])
            for after, before in pairwise(widths)
        )
        self.last = Equalised(widths[0] + 1, widths[0], 3)
        self.features = widths[0] * math.prod(self.sizes[0])

    def forward(self, x: Tensor) -> Tensor:
        last, weight = self.stage
        h = self.features_of(x, last)
        for k in reversed(range(last)):
            for layer in self.blocks[k]:
                h = leaky_relu(layer(h), SLOPE)
            h = resized(h, self.sizes[k])
            if k == last - 1 and weight < 1:
                h = weight * h + (1 - weight) * self.features_of(x, last - 1)
        return leaky_relu(self.last(with_deviation(h)), SLOPE).flatten(1)

    def features_of(self, x: Tensor, stage: int) -> Tensor:
        return leaky_relu(self.images[stage](resized(x, self.sizes[stage])), SLOPE)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over the pixels of each cell of a smaller image."""
    return x if x.shape[2:] == size else nn.functional.adaptive_avg_pool2d(x, size)
