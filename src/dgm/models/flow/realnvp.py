r"""Flow of affine couplings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conv import ConvNet
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import (
    Affine,
    AffineCoupling,
    ChannelCoupling,
    Composition,
    Flattened,
    Transform,
    VectorCoupling,
    alternating,
    checkerboard,
    multi_scale,
    to_real_numbers,
)

BOUND = 2.0  # of the absolute log-scales


class RealNVP(Flow):
    r"""Affine coupling flow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \log |\det \partial f / \partial x|

    A coupling copies the dimensions where b = 1 and transforms the others by functions of them (equation 9):
    z = b x + (1 - b)(x exp(s(b x)) + t(b x)), with log-determinant sum (1 - b) s (equation 6). At each scale an image
    has couplings with checkerboard masks, is squeezed to half the side and four times the channels, and has couplings
    with channel masks; then half of the channels leave (section 3.6), as normals whose means and scales are functions
    of the channels that stay. A vector has couplings of its even and odd dimensions in turn. The density is with
    respect to Lebesgue measure in the units of the data, in nats.

    Source: Density estimation using Real NVP (Dinh et al., 2016), arXiv:1605.08803, equations 4-9, sections 3.4 and 3.6
    and, for bounded x, the logit of section 4.1; the conditional prior, arXiv:1807.03039. Differs from it: no batch
    normalisation; log-scales are bounded; the last scale has channel masks too; networks see a condition.

    Args:
        space: Continuous, of shape (C, H, W) or any other, which is flattened. Discrete data is dequantised by
            `dgm.create`.

    Example:
        >>> import torch
        >>> flow = RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(8, "couplings, of an image at each scale", low=2, high=1000)
        scales: int = setting(2, "squeezes of an image, as far as its sides are even", low=1, high=10)
        hidden: int = setting(32, "width, or channels, of the networks in the couplings", low=1)
        blocks: int = setting(1, "residual blocks, or hidden layers but one, of each network", low=1, high=1000)
        dropout: float = setting(0.0, "dropout rate of hidden units", low=0.0, high=0.95)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "ema": 0.999, "clip": 50.0, "warmup": 100, "weight_decay": 0.01}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition, space.shape[1:] if len(space.shape) == 3 else None)
        if len(space.shape) == 3:
            parts = multi_scale(
                space.shape, config.scales, before=self.by_checkerboard, after=self.by_channels, prior=self.prior
            )
        else:
            parts = [Flattened(Composition(self.of_vectors(space.dim)))]
        self.transform = Composition([*to_real_numbers(space), *parts])

    def by_checkerboard(self, shape: tuple[int, ...]) -> list[Transform]:
        """Half of the couplings of a scale, or all of them where no squeeze follows."""
        squeezed = shape[1] % 2 == shape[2] % 2 == 0
        masks = [checkerboard(shape) ^ bool(k % 2) for k in range(self.config.layers // (2 if squeezed else 1))]
        return [AffineCoupling(mask, self.network(shape[0], 2 * shape[0])) for mask in masks]

    def by_channels(self, shape: tuple[int, ...]) -> list[Transform]:
        """The other half, after the squeeze."""
        half = shape[0] // 2
        return [
            ChannelCoupling(self.network(half, 2 * half), Affine(BOUND), swapped=bool(k % 2))
            for k in range(self.config.layers - self.config.layers // 2)
        ]

    def prior(self, shape: tuple[int, ...]) -> Transform:
        """The second half of the channels as normals given the first."""
        return ChannelCoupling(self.network(shape[0] // 2, shape[0]), Affine(BOUND))

    def network(self, inputs: int, outputs: int) -> nn.Module:
        config = self.config
        return ConvNet(
            inputs + self.features.width, config.hidden, outputs, blocks=config.blocks, dropout=config.dropout
        )

    def of_vectors(self, dim: int) -> list[Transform]:
        config = self.config
        how: dict[str, Any] = {"hidden": [config.hidden] * (config.blocks + 1), "dropout": config.dropout}
        how["context"] = self.features.width
        return [VectorCoupling(alternating(dim, k), Affine(BOUND), **how) for k in range(config.layers)]
