r"""Flow of affine couplings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.modes import evaluated
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.conv import ConvNet
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import AffineCoupling, Composition, Inverse, Logit, Scaled, Squeeze, checkerboard

ALPHA = 0.05  # of the logit, section 4.1


class RealNVP(nn.Module):
    r"""Affine coupling flow, exact log-density.

    .. math:: \log p(x) = \log N(f(x); 0, I) + \log |\det \partial f / \partial x|

    A coupling copies the dimensions where b = 1 and transforms the others by functions of them (equation 9):
    z = b x + (1 - b)(x exp(s(b x)) + t(b x)), with log-determinant sum (1 - b) s (equation 6). Images alternate
    checkerboard masks, are squeezed to half the side and four times the channels, and alternate channel masks.
    The density is with respect to Lebesgue measure in the units of the data, in nats.

    Source: Density estimation using Real NVP (Dinh et al., 2016), arXiv:1605.08803, equations 4-9, section 3.4 and, for
    bounded x, the logit of section 4.1. Differs from it: one squeeze and nothing factored out between scales; no batch
    normalisation; s is bounded by 2 tanh; networks see a condition.

    Args:
        space: Continuous, of shape (D,) or (C, H, W). Discrete data is dequantised by `dgm.create`.

    Example:
        >>> flow = RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(8, "couplings", low=2, high=1000)
        hidden: int = setting(32, "width, or channels, of the networks in the couplings", low=1)
        blocks: int = setting(1, "residual blocks, or hidden layers, of each network", low=1, high=1000)
        dropout: float = setting(0.0, "dropout rate of hidden units", low=0.0, high=0.95)

    spaces: ClassVar[set[str]] = {"continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "ema": 0.999, "clip": 50.0, "warmup": 100, "weight_decay": 0.01}
    likelihood_method = "change of variables"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.features = ConditionFeatures(condition)
        c, h, w = space.shape if len(space.shape) == 3 else (0, 1, 1)
        squeezes = h % 2 == w % 2 == 0
        before = config.layers // 2 if squeezes else config.layers
        first = [self.coupling(space.shape, k) for k in range(before)]
        rest = [self.coupling((4 * c, h // 2, w // 2), k, channels=True) for k in range(before, config.layers)]
        self.transform = Composition(
            [
                Scaled(space),
                *([] if space.bounds is None else [Logit(ALPHA)]),
                *first,
                *([Squeeze(2), *rest, Inverse(Squeeze(2))] if squeezes else []),
            ]
        )

    def coupling(self, shape: tuple[int, ...], k: int, *, channels: bool = False) -> AffineCoupling:
        image = len(shape) == 3
        sizes = [shape[0] + self.features.width, self.config.hidden, 2 * shape[0]]
        network: nn.Module = (
            ConvNet(*sizes, blocks=self.config.blocks, dropout=self.config.dropout)
            if image
            else mlp(
                [sizes[0], *[self.config.hidden] * (self.config.blocks + 1), sizes[2]], dropout=self.config.dropout
            )
        )
        mask = (torch.arange(shape[0]) < shape[0] // 2).view(-1, 1, 1) if channels else checkerboard(shape)
        return AffineCoupling(mask ^ bool(k % 2), network)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, ladj = self.encode_and_ladj(x, y)
        normal = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
        return normal + ladj

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y)

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        with torch.no_grad():
            return self.rsample(n, y, seed=seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        like = next(self.parameters())
        noise = streams(n, seed, like.device)
        y = sampled_condition(y, self, noise)
        return self.decode(noise.normal(self.space.shape).to(like), y)

    @property
    def latent_space(self) -> Space:
        return Space.continuous(self.space.shape)

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """z = f(x), of the shape of x."""
        return self.encode_and_ladj(x, y)[0]

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """x = f^-1(z)."""
        return self.transform.inverse(z, self.numbers(y))[0]

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """f(x) and log |det df/dx|, (B,)."""
        return self.transform(x, self.numbers(y))

    def numbers(self, y: Conditions | None) -> Tensor | None:
        """The condition as numbers (B, K)."""
        y = check_condition(y, self.condition)
        return None if y is None else self.features(y, next(self.parameters()))
