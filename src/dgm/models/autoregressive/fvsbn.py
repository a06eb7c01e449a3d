r"""Fully visible sigmoid belief network, exact log-likelihood.

.. math:: \log p(x) = \sum_d \log p(x_d | x_{<d}), \qquad p(x_d = 1 | x_{<d}) = \sigma(b_d + \sum_{j<d} W_{dj} x_j)

A logistic regression of each dimension on all earlier dimensions in raster order; the first has only a bias.

Source: Connectionist learning of belief networks (Neal, 1992); Does the wake-sleep algorithm produce good density
estimators? (Frey, Hinton & Dayan, 1996), equations 1 and 2.
Differs from it: a softmax for unordered values, a mixture of discretised logistics for grey levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dgm.distributions.features import Features
from dgm.distributions.output import output_distribution
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.conditioning import condition_vector
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space


class FVSBN(ChainRule):
    """log P(x) in nats.

    Args:
        space: Any discrete space.

    Example:
        >>> fvsbn = FVSBN(Space.binary((4,)), FVSBN.Config())
        >>> fvsbn.log_prob(torch.zeros(2, 4, dtype=torch.uint8)).exp()  # all weights start at zero: 1 / 2^4
        tensor([0.0625, 0.0625], grad_fn=<ExpBackward0>)
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        components: int = setting(5, "components of the mixtures, for grey levels and real numbers", low=1)

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "lr": 1e-3, "ema": 0.999}

    mask: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.observed = output_distribution(space, config.components)
        self.features = Features(space)
        k, d, v = self.observed.outputs, space.dim, self.features.width
        self.weight = nn.Parameter(torch.zeros(d * k, d * v))
        # the components of a mixture must not be initialised equally, since their gradients would be equal too
        self.bias = nn.Parameter(torch.zeros(d * k) if space.kind in ("binary", "tokens") else torch.randn(d * k))
        self.condition_bias = condition_vector(condition, d * k)
        earlier = torch.ones(d, d, dtype=torch.bool).tril(-1)
        self.register_buffer("mask", earlier.repeat_interleave(k, 0).repeat_interleave(v, 1), persistent=False)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        seen = to_sequence(self.features(x), self.space).flatten(1)
        outputs = linear(seen, self.weight * self.mask) + self.first(len(x), y)
        return from_sequence(outputs.unflatten(1, (self.space.dim, -1)), self.space)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Caches the sum of every dimension, and adds the contribution of each new value."""
        k, v, weight = self.observed.outputs, self.features.width, self.weight.mT.contiguous()
        sums, flat = self.first(len(x), y).contiguous(), x.view(len(x), -1)
        features = self.features(
            torch.arange(self.space.values or 0, device=x.device)
        )  # of every value, looked up below
        for i, dim in enumerate(raster_order(self.space)):
            yield sums[:, i * k : (i + 1) * k]
            rest = (i + 1) * k
            sums[:, rest:].addmm_(features[flat[:, dim].long()], weight[i * v : (i + 1) * v, rest:])

    def first(self, n: int, y: Conditions | None) -> Tensor:
        """The outputs without inputs, (n, D * outputs)."""
        y = self.checked(y)
        return self.bias.expand(n, -1) if self.condition_bias is None else self.bias + self.condition_bias(y)
