r"""Inverse autoregressive flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import Autoregressive, Composition, Flattened, Inverse, Permutation, Transform, to_real_numbers


class IAF(Flow):
    r"""Inverse autoregressive flow, exact log-density.

    .. math:: \log p(x) = \log p(z) - \sum_l \sum_d s_{l,d}, \qquad
        u_d^{(l)} = u_d^{(l-1)} e^{s_{l,d}} + t_{l,d}, \quad (s_{l,d}, t_{l,d}) = h_{l,d}(u_{<d}^{(l-1)})

    with u^(0) = z and x = u^(L): the layers of `MAF` run from noise to data. A sample takes one pass of each masked
    network, and the density of given data solves for z, see `dgm.transforms.Autoregressive`; its gradient is that of
    the implicit function. Density with respect to Lebesgue measure in the units of the data; `log_prob` in nats, summed
    over dimensions.

    Source: Improving variational inference with inverse autoregressive flow (Kingma et al., 2016), arXiv:1606.04934,
    equations 10 and 11, which has it as the posterior of a VAE; as a density, arXiv:1705.07057, section 3.4. Differs
    from it: the scale is e^s with a bounded s, where the source also proposes a sigmoid; trained by maximum likelihood.

    Args:
        space: Continuous, of any shape, which is flattened.

    Example:
        >>> flow = IAF(Space.continuous((3,)), IAF.Config(layers=2, hidden=16))
        >>> flow.sample(5, seed=0).shape
        torch.Size([5, 3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(5, "autoregressive layers", low=1, high=1000)
        hidden: int = setting(64, "width of the hidden layers of each masked network", low=1)
        blocks: int = setting(2, "hidden layers of each masked network", low=1, high=1000)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 256, "ema": 0.995, "clip": 10.0, "warmup": 100}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.features = ConditionFeatures(condition)
        hidden = [config.hidden] * config.blocks
        parts: list[Transform] = []
        for _ in range(config.layers):
            parts.append(Inverse(Autoregressive(space.dim, hidden=hidden, context=self.features.width)))
            parts.append(Permutation(range(space.dim)[::-1]))
        self.transform = Composition([*to_real_numbers(space), Flattened(Composition(parts))])
