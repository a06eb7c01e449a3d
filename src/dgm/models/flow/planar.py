r"""Flow of planar maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import Composition, Planar, Scaled


class PlanarFlow(Flow):
    r"""Planar flow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_k \log |1 + w_k^T u_k \tanh'(w_k^T z_{k-1} + b_k)|, \qquad
        z_k = z_{k-1} + u_k \tanh(w_k^T z_{k-1} + b_k), \quad z_0 = x, \quad z = z_K

    Density with respect to Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions.

    Source: Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), arXiv:1505.05770, equations 10-13,
    appendix A.1. Differs from it: the maps lead from data to the base, so that the density of given data has a closed
    form and sampling solves one equation for each map; w, u and b of a conditional flow are affine in the condition's
    features.

    Args:
        space: Continuous, of any shape, which is flattened.

    Example:
        >>> flow = PlanarFlow(Space.continuous((2,)), PlanarFlow.Config(layers=2))
        >>> flow.sample(3, seed=0).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(16, "planar maps", low=1, high=1000)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "lr": 5e-3, "warmup": 100, "ema": 0.995, "clip": 10.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition)
        maps = [Planar(space.dim, self.features.width) for _ in range(config.layers)]
        self.transform = Composition([Scaled(space), *maps])
