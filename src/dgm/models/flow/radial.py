r"""Flow of radial maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import Composition, Radial, Scaled


class RadialFlow(Flow):
    r"""Radial flow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_k (D - 1) \log(1 + \beta_k h_k)
        + \log(1 + \alpha_k \beta_k h_k^2), \qquad h_k = 1 / (\alpha_k + \|z_{k-1} - x_k\|)

    where z_k = z_{k-1} + beta_k h_k (z_{k-1} - x_k), z_0 = x and z = z_K: mass moves from and to the points x_k.
    Density with respect to Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions.

    Source: Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), arXiv:1505.05770, equation 14,
    appendix A.2. Differs from it: the maps lead from data to the base, and their inverse has a closed form; the
    parameters of a conditional flow are affine in the condition's features.

    Args:
        space: Continuous, of any shape, which is flattened.

    Example:
        >>> flow = RadialFlow(Space.continuous((2,)), RadialFlow.Config(layers=2))
        >>> flow.sample(3, seed=0).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(16, "radial maps", low=1, high=1000)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "lr": 5e-3, "warmup": 100, "ema": 0.995, "clip": 10.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition)
        maps = [Radial(space.dim, self.features.width) for _ in range(config.layers)]
        self.transform = Composition([Scaled(space), *maps])
