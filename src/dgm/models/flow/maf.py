r"""Masked autoregressive flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import Autoregressive, Composition, Flattened, Permutation, Transform, to_real_numbers


class MAF(Flow):
    r"""Masked autoregressive flow, exact log-density.

    .. math:: \log p(x) = \log p(z) + \sum_l \sum_d s_{l,d}, \qquad
        u_d^{(l)} = u_d^{(l-1)} e^{s_{l,d}} + t_{l,d}, \quad (s_{l,d}, t_{l,d}) = h_{l,d}(u_{<d}^{(l-1)})

    with u^(0) = x and z = u^(L). Each layer has a masked network h_l, and the order of the dimensions is reversed after
    each. Density with respect to Lebesgue measure in the units of the data; `log_prob` in nats, summed over dimensions,
    takes one pass of each network. A sample solves for the dimensions one after another, see
    `dgm.transforms.Autoregressive`.

    Source: Masked autoregressive flow for density estimation (Papamakarios et al., 2017), arXiv:1705.07057, equations
    2-6, where s is -alpha and t is -mu exp(-alpha); bounded x, its section 4.2. Differs from it: no batch normalisation
    between layers; log-scales are bounded.

    Args:
        space: Continuous, of any shape, which is flattened.

    Example:
        >>> import torch
        >>> flow = MAF(Space.continuous((3,)), MAF.Config(layers=2, hidden=16))
        >>> flow.log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(5, "autoregressive layers", low=1, high=1000)
        hidden: int = setting(128, "width of the hidden layers of each masked network", low=1)
        blocks: int = setting(2, "hidden layers of each masked network", low=1, high=1000)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "ema": 0.995, "clip": 10.0, "warmup": 100}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition)
        hidden = [config.hidden] * config.blocks
        parts: list[Transform] = []
        for _ in range(config.layers):
            parts.append(Autoregressive(space.dim, hidden=hidden, context=self.features.width))
            parts.append(Permutation(range(space.dim)[::-1]))
        self.transform = Composition([*to_real_numbers(space), Flattened(Composition(parts))])
