"""The base class of diffusion, score and flow-matching models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, partly_hidden
from dgm.networks.denoiser import Denoiser
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample, State
from dgm.samplers import diffusion, flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.seeds import Seed
from dgm.space import Space


class GaussianDenoiser(nn.Module, ABC):
    """An abstract `dgm.protocols.Denoising`: it supports every solver, and has a density by the probability-flow ODE.

    A model defines its loss and its prediction, and has the attributes ``path``, ``t_min`` and ``sampler``.
    ``config.condition_dropout`` is the dropout rate of conditions in training.
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = Denoiser.defaults
    path: GaussianPath
    t_min: float
    sampler: SamplerConfig

    def __init__(self, space: Space, config: Any, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.scaling = Scaling(space)
        self.marginal = None if condition is None else Marginal(condition)

    def denoiser(self, **options: Any) -> Denoiser:
        """The network of the model's space and condition; ``options`` as `dgm.networks.denoiser.Denoiser`."""
        return Denoiser(
            self.space.shape,
            width=self.config.width,
            condition=self.condition,
            condition_dropout=self.config.condition_dropout,
            **options,
        )

    @abstractmethod
    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample: ...

    @abstractmethod
    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction: ...

    def checked(self, y: Conditions | None) -> Conditions | None:
        """Checks that ``y`` is a batch of the model's condition, and returns it."""
        return check_condition(y, self.condition)

    def partly_hidden(self, y: Conditions | None) -> Conditions | PartlyHidden | None:
        """The conditions for training, with condition dropout."""
        return partly_hidden(self.checked(y), self.config.condition_dropout)

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The estimate by the probability-flow ODE: see `dgm.samplers.flow_density`."""
        return flow_density.log_prob(self, x, self.checked(y))

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return diffusion.sample(self, n, y, seed=seed)

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        return diffusion.trajectory(self, n, y, seed=seed)
