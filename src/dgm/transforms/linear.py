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
            raise BadInput(
                f"a permutation names each of 0 to {len(order) - 1} once, got {order.tolist()}", "correct it"
            )
        self.register_buffer("order", order)

    @property
    def reverses(self) -> bool:
        """Whether a flip does the same, whose gradient takes a third of the time; not read from other devices."""
        return self.order.device.type == "cpu" and bool((self.order.diff() == -1).all())

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        if self.reverses:
            return x.flip(1), x.new_zeros(len(x))
        return x.transpose(0, 1).index_select(0, self.order).transpose(0, 1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        if self.reverses:
            return self.forward(z, c)
        return z.transpose(0, 1).index_select(0, self.order.argsort()).transpose(0, 1), z.new_zeros(len(z))


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


class InvertibleLinear(Transform):
    r"""z = W x, of vectors or of the channels at every place of an image: a 1×1 convolution. W = P L (U + diag(s)).

    The permutation P and the signs of s are those of a random rotation and fixed; L is lower triangular with a unit
    diagonal, U strictly upper triangular. The log-determinant is sum log |s| for every place.

    Source: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, section 3.2, equations 10 and 11.

    Args:
        channels: The size of x's first dimension.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        p, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels))[0])
        s = upper.diagonal()
        self.register_buffer("order", p.argmax(1))  # of the rows of L (U + diag(s))
        self.register_buffer("sign", s.sign())
        self.log_s = nn.Parameter(s.abs().log())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s)."""
        one = torch.ones_like(self.log_s).diag()
        return self.lower.tril(-1) + one, self.upper.triu(1) + (self.sign * self.log_s.exp()).diag()

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        lower, upper = self.factors()
        return times((lower @ upper)[self.order], x), self.ladj_of(x)

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        lower, upper = self.factors()
        one = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)[self.order.argsort()]
        first = torch.linalg.solve_triangular(lower, one, upper=False, unitriangular=True)
        return times(torch.linalg.solve_triangular(upper, first, upper=True), z), -self.ladj_of(z)

    def ladj_of(self, x: Tensor) -> Tensor:
        return (math.prod(x.shape[2:]) * self.log_s.sum()).expand(len(x))


def times(w: Tensor, x: Tensor) -> Tensor:
    """W x of vectors (B, C), or at every place of (B, C, H, W)."""
    if x.dim() == 2:
        return x @ w.mT
    places = x.transpose(0, 1)  # one product of all of them takes a third of the time of a 1×1 convolution
    return (w @ places.flatten(1)).view_as(places).transpose(0, 1)


class ActNorm(Transform):
    r"""z = (x - loc) exp(-log_scale), with trainable loc and log_scale for each channel.

    Source: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, section 3.1. `initialise` sets them so that the first
    batch has mean 0 and variance 1 in each channel; otherwise the map is the identity at first. It does so once.

    Args:
        channels: The size of x's first dimension.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        if self.initialised:
            return
        self.initialised.fill_(True)
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
