"""The generator and the discriminator of R3GAN: residual, grouped and without any normalisation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from dgm.networks.conv import sizes
from dgm.networks.maps import MapsAtSizes

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # of a leaky ReLU, so that it preserves the variance
EXPANSION, GROUP = 2, 16  # of the channels inside a block, and the channels of a group


class ResidualBlock(nn.Module):
    """x + W_3 a(W_2 a(W_1 x)): 1×1, grouped 3×3 and 1×1 convolutions; W_3 is initially 0.

    Args:
        blocks: The number L of blocks of the network: W_1 and W_2 are scaled by L^(-1/4), so that the variance of the
            output does not grow with the depth.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        groups = wide // GROUP if wide % GROUP == 0 else 1
        gain = GAIN * blocks**-0.25
        self.first = scaled(nn.Conv2d(width, wide, 1), gain)
        self.second = scaled(nn.Conv2d(wide, wide, 3, padding=1, groups=groups), gain)
        self.third = scaled(nn.Conv2d(wide, width, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.second(leaky_relu(self.first(x), SLOPE)), SLOPE)
        return x + self.third(h)


def scaled(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Module:
    """The layer with weights from N(0, gain² / fan-in) and no bias."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class R3GANGenerator(nn.Module):
    """From vectors (B, inputs) to images (B, *shape).

    A learnt 4×4 map is scaled per channel by a linear function of z; residual blocks at each size follow, with bilinear
    upsampling between them and a 1×1 convolution where the number of channels changes.

    Source: The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), arXiv:2501.05441, section 4,
    configuration E. Differs from it: the size follows that of the data; plain bilinear resampling; channels double
    at each halving, up to four times the width.
    """

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, blocks: int = 1, maps: int = 0) -> None:
        super().__init__()
        self.sizes = sizes(*shape[1:])
        widths = widths_of(width, len(self.sizes))[::-1]
        total = blocks * len(self.sizes)
        self.basis = nn.Parameter(torch.randn(widths[0], *self.sizes[0]))
        self.modulate = scaled(nn.Linear(inputs, widths[0], bias=False), 1.0)
        self.change = nn.ModuleList(changed(*pair) for pair in pairwise(widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, total) for _ in range(blocks))) for width in widths
        )
        self.last = scaled(nn.Conv2d(widths[-1], shape[0], 1), 1.0)
        self.maps = MapsAtSizes(maps, widths, self.sizes)

    def forward(self, z: Tensor, maps: Tensor | None = None) -> Tensor:
        h = self.blocks[0](self.maps(self.basis * self.modulate(z)[:, :, None, None], 0, maps))
        for k, (change, blocks) in enumerate(zip(self.change, self.blocks[1:], strict=True), 1):
            h = blocks(self.maps(interpolate(change(h), self.sizes[k], mode="bilinear"), k, maps))
        return self.last(h)


class R3GANDiscriminator(nn.Module):
    """From images (B, inputs, H, W) to features (B, features): the generator's mirror image, see `R3GANGenerator`."""

    def __init__(self, inputs: int, width: int, shape: tuple[int, ...], *, blocks: int = 1) -> None:
        super().__init__()
        path = sizes(*shape[1:])[::-1]
        self.sizes, widths = path, widths_of(width, len(path))
        total = blocks * len(path)
        self.first = scaled(nn.Conv2d(inputs, widths[0], 1), 1.0)
        self.change = nn.ModuleList(changed(*pair) for pair in pairwise(widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, total) for _ in range(blocks))) for width in widths
        )
        self.features = widths[-1]
        self.basis = scaled(nn.Conv2d(self.features, self.features, path[-1], groups=self.features, bias=False), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks[0](self.first(x))
        for change, blocks, size in zip(self.change, self.blocks[1:], self.sizes[1:], strict=True):
            h = blocks(change(interpolate(h, size, mode="bilinear", antialias=True)))
        return self.basis(h).flatten(1)


def widths_of(width: int, count: int) -> list[int]:
    return [width * min(2**k, 4) for k in range(count)]


def changed(before: int, after: int) -> nn.Module:
    return nn.Identity() if before == after else scaled(nn.Conv2d(before, after, 1, bias=False), 1.0)
