"""Several scales of an image: squeezes, and halves of the channels that leave early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from dgm.transforms.coupling import ChannelCoupling
from dgm.transforms.linear import ActNorm, InvertibleLinear, Squeeze
from dgm.transforms.transform import Composition, Inverse, Mapped, Transform

Shape: TypeAlias = tuple[int, ...]


class FirstHalf(Transform):
    """A transform of the first half of the channels; the second half is final."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        first, second = x.chunk(2, 1)
        z, ladj = self.transform(first, c)
        return torch.cat([z, second], 1), ladj

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        first, second = z.chunk(2, 1)
        x, ladj = self.transform.inverse(first, c)
        return torch.cat([x, second], 1), ladj


def glow_steps(channels: int, layers: int, coupling: Callable[[int], Transform]) -> list[Transform]:
    """Of each layer an actnorm, an invertible linear map of the channels, and a coupling of that many channels.

    Source: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, section 3.
    """
    return [part for _ in range(layers) for part in (ActNorm(channels), InvertibleLinear(channels), coupling(channels))]


def convolutional_prior(channels: int, context: int) -> Transform:
    """The second half of the channels as normals given the first and ``context`` channels of a condition."""
    return ChannelCoupling(nn.Conv2d(channels // 2 + context, channels, 3, padding=1))


def multi_scale(
    shape: Shape,
    scales: int,
    *,
    before: Callable[[Shape], Sequence[Transform]],
    after: Callable[[Shape], Sequence[Transform]],
    prior: Callable[[Shape], Transform],
) -> list[Transform]:
    """The transforms of an image at several scales; z has the shape of x.

    Each scale squeezes 2×2 squares into channels. Between two scales half of the channels leave: ``prior`` maps them,
    given the other half, to the base distribution, and the next scale has the other half alone. Scales that an odd
    side does not allow are left out.

    Args:
        before, after: The transforms of a scale before and after its squeeze, of x's shape there.
        prior: A coupling that keeps the first half of the channels.
    """
    channels, height, width = shape
    if scales < 1 or height % 2 or width % 2:
        return [*before(shape)]
    squeezed = (4 * channels, height // 2, width // 2)
    parts = [*before(shape), Squeeze(2), *after(squeezed)]
    if scales > 1 and squeezed[1] % 2 == squeezed[2] % 2 == 0:
        rest = multi_scale((2 * channels, *squeezed[1:]), scales - 1, before=before, after=after, prior=prior)
        parts += [prior(squeezed), FirstHalf(Composition(rest))]
    return [*parts, Inverse(Squeeze(2))]
