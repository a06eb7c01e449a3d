r"""Flow of invertible 1×1 convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import (
    ChannelCoupling,
    Composition,
    Flattened,
    Transform,
    VectorCoupling,
    alternating,
    convolutional_prior,
    glow_steps,
    multi_scale,
    to_real_numbers,
)


class Glow(Flow):
    r"""Glow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_l \log |\det \partial f_l / \partial u_{l-1}|

    Each step f_l is three maps: a scale and shift of each channel, which standardise the first batch (actnorm); an
    invertible linear map of the channels, W = P L (U + diag(s)); and a coupling that scales and shifts one half of the
    channels by functions of the other. An image is squeezed before the steps of each scale, and half of its channels
    leave after them, as normals whose means and scales are functions of the channels that stay. Density with respect to
    Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions. At a temperature T noise is
    multiplied by T, in the early channels too.

    Source: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma & Dhariwal, 2018), arXiv:1807.03039,
    section 3 and figure 2. Differs from it: log-scales are bounded smoothly; no actnorm inside the networks; bounded x
    goes through a logit; examples that are no image with even sides are vectors.

    Args:
        space: Continuous, of shape (C, H, W) or any other, which is flattened.

    Example:
        >>> flow = Glow(Space.continuous((1, 4, 4)), Glow.Config(layers=2, hidden=8))
        >>> flow.sample(2, seed=0).shape
        torch.Size([2, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        scales: int = setting(2, "squeezes of an image, as far as its sides are even", low=1, high=10)
        layers: int = setting(8, "steps at each scale", low=1, high=1000)
        hidden: int = setting(64, "channels, or width, of the networks in the couplings", low=1)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "ema": 0.999, "clip": 50.0, "warmup": 200}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        shape = space.shape
        in_scales = len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0
        self.features = ConditionFeatures(condition, shape[1:] if in_scales else None)
        if in_scales:
            parts = multi_scale(shape, config.scales, before=lambda _: [], after=self.steps, prior=self.prior)
        else:
            parts = [Flattened(Composition(self.of_vectors(space.dim)))]
        self.transform = Composition([*to_real_numbers(space), *parts])

    def steps(self, shape: tuple[int, ...]) -> list[Transform]:
        """The steps of one scale."""
        return glow_steps(shape[0], self.config.layers, lambda channels: ChannelCoupling(self.network(channels)))

    def network(self, channels: int) -> nn.Module:
        hidden = self.config.hidden
        return nn.Sequential(
            nn.Conv2d(channels // 2 + self.features.width, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 3, padding=1),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prior(self, shape: tuple[int, ...]) -> Transform:
        return convolutional_prior(shape[0], self.features.width)

    def of_vectors(self, dim: int) -> list[Transform]:
        hidden = [self.config.hidden] * 2
        masks = (alternating(dim, layer) for layer in range(self.config.layers))
        return glow_steps(
            dim,
            self.config.layers,
            lambda _: VectorCoupling(next(masks), hidden=hidden, context=self.features.width),
        )
