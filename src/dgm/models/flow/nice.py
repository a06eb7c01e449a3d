r"""Flow of additive couplings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import ActNorm, Composition, Flattened, Shift, VectorCoupling, alternating, to_real_numbers


class NICE(Flow):
    r"""Additive coupling flow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_d s_d, \qquad z = (u - b) e^{s}, \quad
        u_{I_2}^{(l)} = u_{I_2}^{(l-1)} + m_l(u_{I_1}), \quad u_{I_1}^{(l)} = u_{I_1}^{(l-1)}

    with u^(0) = x. The couplings keep volumes; I_1 and I_2 are the even and the odd dimensions, in turn. Density with
    respect to Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions.

    Source: NICE: Non-linear independent components estimation (Dinh et al., 2014), arXiv:1410.8516, equations 4, 5, 9
    and 10, and section 3.3. Differs from it: the base is normal, as of its CIFAR-10 models; the scaling has a shift b;
    bounded x goes through a logit.

    Args:
        space: Continuous, of any shape, which is flattened.

    Example:
        >>> import torch
        >>> flow = NICE(Space.continuous((4,)), NICE.Config(hidden=16))
        >>> flow.log_prob(torch.zeros(5, 4)).shape
        torch.Size([5])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(4, "couplings", low=2, high=1000)
        hidden: int = setting(128, "width of the hidden layers of each network", low=1)
        blocks: int = setting(2, "hidden layers of each network", low=1, high=1000)
        dropout: float = setting(0.0, "dropout rate of hidden units", low=0.0, high=0.95)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "ema": 0.995, "clip": 10.0, "warmup": 100}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition)
        how: dict[str, Any] = {
            "hidden": [config.hidden] * config.blocks,
            "context": self.features.width,
            "dropout": config.dropout,
        }
        masks = [alternating(space.dim, layer) for layer in range(config.layers)]
        couplings = [VectorCoupling(mask, Shift(), **how) for mask in masks]
        parts = Flattened(Composition([*couplings, ActNorm(space.dim)]))
        self.transform = Composition([*to_real_numbers(space), parts])
