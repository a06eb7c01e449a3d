"""The base class of autoregressive models, p(x) = prod p(x_i | x_<i)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from dgm.distributions.output import OutputDistribution
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.space import Space


class ChainRule(nn.Module, ABC):
    r"""An abstract `dgm.protocols.Autoregressive`, with an exact likelihood.

    .. math:: \log p(x|y) = \sum_i \log p(x_i | x_{<i}, y)

    A model defines the conditionals, in parallel and sequentially, and has their ``observed`` distribution.
    """

    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    likelihood_method = "chain rule, one pass"
    observed: OutputDistribution

    def __init__(self, space: Space, config: Any, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.read: ConditionProjections | None = None  # the embedding of a condition that layers project

    @abstractmethod
    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor: ...

    @abstractmethod
    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]: ...

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y)

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)

    def checked(self, y: Conditions | None) -> Conditions | None:
        """Checks that ``y`` is a batch of the model's condition, and returns it."""
        return check_condition(y, self.condition)

    def embedded(self, y: Conditions | None) -> Tensor | None:
        """The condition as the layers' projections take it."""
        y = self.checked(y)
        return None if y is None or self.read is None else self.read(y)
