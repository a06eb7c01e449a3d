"""Linear maps: permutations, the squeeze, and a scale and shift of each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from dgm.errors import BadInput
from dgm.transforms.transform import Mapped, Transform


class Permutation(Transform):
    """z[:, i] = x[:, order[i]], of dimensions or of channels.

    Raises:
        BadInput: If the order is not a permutation of 0 to D - 1.
    """

    order: Tensor

    def __init__(self, order: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(order)
        if sorted(order.tolist()) != list(range(len(order))):
            raise BadInput(f"a permutation names each of 0 to {len(order) - 1} once, got {order.tolist()}", "mend it")
        self.register_buffer("order", order)

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class Squeeze(Transform):
    """Maps (C, H, W) to (factor² C, H / factor, W / factor): the pixels of each square become channels.

    Source: arXiv:1605.08803, section 3.6.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        return pixel_unshuffle(x, self.factor), x.new_zeros(len(x))

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return pixel_shuffle(z, self.factor), z.new_zeros(len(z))


class ActNorm(Transform):
    r"""z = (x - loc) exp(-log_scale), with trainable loc and log_scale for each channel.

    Source: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, section 3.1. `initialise` sets them so that the first
    batch has mean 0 and variance 1 in each channel; otherwise the map is the identity at first.

    Args:
        channels: The size of x's first dimension.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        of_channels = x.transpose(0, 1).flatten(1)
        self.loc.copy_(of_channels.mean(1))
        self.log_scale.copy_(of_channels.std(1, correction=0).clamp_min(1e-6).log())

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        loc, log_scale = (of_channel(v, x) for v in (self.loc, self.log_scale))
        return (x - loc) * (-log_scale).exp(), -self.ladj_of(x)

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        loc, log_scale = (of_channel(v, z) for v in (self.loc, self.log_scale))
        return z * log_scale.exp() + loc, self.ladj_of(z)

    def ladj_of(self, x: Tensor) -> Tensor:
        return (math.prod(x.shape[2:]) * self.log_scale.sum()).expand(len(x))


def of_channel(v: Tensor, x: Tensor) -> Tensor:
    return v.view(-1, *[1] * (x.dim() - 2))
