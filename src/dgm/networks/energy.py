"""The network of an energy: smooth and without normalisation, since its gradient is the score."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from dgm.networks.conditioning import ConditionMaps, condition_vector, has_images
from dgm.networks.conv import sizes
from dgm.networks.mlp import mlp
from dgm.protocols import Conditions
from dgm.space import Space


class EnergyFeatures(nn.Module):
    """Features (B, 4 width) of scaled examples: strided convolutions of images (C, H, W), a perceptron otherwise."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.features = 4 * width
        if len(shape) != 3:
            self.layers = nn.Sequential(nn.Flatten(), mlp([math.prod(shape), *[self.features] * 3]), nn.SiLU())
            return
        path = sizes(shape[1], shape[2])
        widths = [width * 2**k for k in range(len(path))]
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1), nn.SiLU()]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        hidden = nn.Linear(widths[-1] * math.prod(path[0]), self.features)
        self.layers = nn.Sequential(*layers, nn.Flatten(), hidden, nn.SiLU())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class EnergyNetwork(nn.Module):
    r"""A scalar f(z, y) of scaled examples, (B,): a linear function of features h, whose weights depend on y.

    .. math:: f(z, y) = (w + V y)^\top h(z) + b

    Images of the condition are also concatenated with an image z, so that h depends on each of their pixels.

    Source: the form of a projection discriminator, cGANs with Projection Discriminator (Miyato & Koyama, 2018),
    arXiv:1802.05637, equation 3.
    """

    def __init__(self, shape: tuple[int, ...], width: int, condition: Space | None = None, *, bias: bool) -> None:
        super().__init__()
        self.maps = ConditionMaps(condition, shape[1:]) if len(shape) == 3 and has_images(condition) else None
        self.features = EnergyFeatures((shape[0] + (self.maps.width if self.maps else 0), *shape[1:]), width)
        self.last = nn.Linear(self.features.features, 1, bias=bias)
        self.projection = condition_vector(condition, self.features.features)

    def forward(self, z: Tensor, y: Conditions | None = None) -> Tensor:
        h = self.features(z if self.maps is None or y is None else torch.cat([z, self.maps(y, len(z))], 1))
        f = self.last(h)[:, 0]
        return f if self.projection is None else f + (self.projection(y) * h).sum(1)
