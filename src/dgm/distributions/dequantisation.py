r"""Continuous densities of discrete data, and of records of discrete, continuous and missing values.

.. math:: P(x) = E_{q(v|x)} \frac{p(v)}{q(v|x)} \ge \exp E_{q(v|x)} [\log p(v) - \log q(v|x)]

v is x with noise within the cell of x, see `dgm.distributions.cells`: for integers v = x + u with u uniform on
[0, 1)^D, and q is 1; a learnt q is that of `dgm.distributions.variational_dequantisation`. p(v) / q(v|x) at one v is an
importance weight of P(x), and its logarithm is a lower bound in expectation. For a record, P(x) is the joint density of
the set of observed values and of these values, with respect to the product of counting and Lebesgue measures.

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.composite import StatesOfPart, TrainsPart
from dgm.distributions.cells import Cells, cells
from dgm.errors import BadInput
from dgm.protocols import (
    Batch,
    BoundedLikelihood,
    Conditions,
    DataDependent,
    Diagnosed,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Imputing,
    Invertible,
    Latent,
    Model,
    MultiPlayer,
    PerExample,
    Progressive,
    Regularised,
    Samplable,
    State,
    Stateful,
    Trainable,
    Unnormalised,
    Variational,
    has,
)
from dgm.seeds import Seed, Streams
from dgm.settings import setting
from dgm.space import Space

# capability of the continuous model -> capabilities of the dequantised model
PASSED_ON: Mapping[type, tuple[type, ...]] = {
    Trainable: (Trainable,),
    MultiPlayer: (MultiPlayer,),
    Fittable: (Fittable,),
    Samplable: (Samplable,),
    Imputing: (Imputing,),
    Progressive: (Progressive,),
    ExactLikelihood: (BoundedLikelihood, ImportanceWeighted),
    BoundedLikelihood: (BoundedLikelihood,),
    ImportanceWeighted: (ImportanceWeighted,),
    EstimatedLikelihood: (EstimatedLikelihood,),
    Unnormalised: (Unnormalised,),
    Latent: (Latent,),
    Stateful: (Stateful,),
    DataDependent: (DataDependent,),
    Regularised: (Regularised,),
    Diagnosed: (Diagnosed,),
    Invertible: (Variational,),
    Variational: (Variational,),
}


def box(space: Space) -> Space:
    """The real numbers whose cells are the values of ``space``: [0, K)^D of integers, R^E of a record."""
    return cells(space).box


class Dequantised(TrainsPart):
    """A model of a discrete space or of a record, made from a model of the continuous space `box`.

    An exact log-density becomes a lower bound with importance weights; bounds and estimates keep their kind.

    Args:
        space: A space of ordered discrete values, or a record.
        model: A model of ``box(space)``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        noise: Literal["uniform", "variational"] = setting("uniform", "distribution of the noise within a cell")
        knots: int = setting(0, "knots of the normal scores of each number of a record; 0 for none", low=0, high=1000)

    def __init__(self, space: Space, config: Config, condition: Space | None = None, *, model: Model) -> None:
        super().__init__()
        if model.space != box(space):
            raise BadInput(f"a model of {model.space} cannot be dequantised to {space}", f"give one of {box(space)}")
        self.space, self.config, self.condition = space, config, condition
        self.model = model
        self.defaults = getattr(model, "defaults", {})
        self.capabilities = frozenset(
            one
            for continuous, dequantised in PASSED_ON.items()
            if has(model, continuous) and (space.kind != "record" or continuous is not Imputing)
            for one in dequantised
        )
        self.learnt = config.noise == "variational"
        self.cells = self.learnt_cells() if self.learnt else cells(space, config.knots)

    @property
    def likelihood_method(self) -> str:
        return f"{getattr(self.model, 'likelihood_method', '')}, {self.cells.method}".removeprefix(", ")

    def learnt_cells(self) -> Cells:
        from dgm.distributions.variational_dequantisation import LearntUnitCells

        if self.space.kind == "record":
            raise BadInput("variational dequantisation is of integers, got a table", "leave --dequantisation out")
        if not (has(self.model, ExactLikelihood) and has(self.model, Trainable)):
            wrong = f"variational dequantisation needs a flow, got a {type(self.model).__name__}"
            raise BadInput(wrong, "leave --dequantisation out, or choose another; `dgm models` lists them")
        return LearntUnitCells(self.space)

    @property
    def parts(self) -> dict[str, Model]:
        return {"model": self.model}

    def lift(self, x: Batch) -> Tensor:
        """x with noise."""
        return self.cells.lift(x)[0]

    @property
    def trained_part(self) -> tuple[str, Model]:
        return "model", self.model

    def for_part(self, x: Batch, y: Conditions | None) -> tuple[Tensor, Conditions | None]:
        return self.lift(x), y

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_weight(x, y) if self.learnt else super().loss(x, y)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.cells.floor(self.model.sample(n, y, seed=seed))

    def impute(self, x: Batch, observed: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """Given the observed integers at the centres of their cells, which is exact up to the width of a cell."""
        v = self.model.impute(self.cells.centre(x), observed, y, seed=seed)
        return torch.where(observed, x, self.cells.floor(v))

    def log_prob_observed(self, x: Batch, observed: Tensor, y: Conditions | None = None) -> PerExample:
        """At one v, as `log_weight`."""
        v, log_q = self.cells.lift(x)
        log_p = self.model.log_prob_observed(v, observed, y)
        return log_p - cast(log_q, log_p)

    def through_part(
        self, states: StatesOfPart, y: Conditions | None, noise: Streams, *, mean: bool = False
    ) -> Iterator[State]:
        for state in states(y, noise):
            yield state._replace(x=self.cells.floor(state.x))

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(v) - log q(v|x) at one v, or with the model's importance weight; its exponential has mean P(x)."""
        v, log_q = self.cells.lift(x)
        log_p = self.model.log_prob(v, y) if has(self.model, ExactLikelihood) else self.model.log_weight(v, y)
        return log_p - cast(log_q, log_p)

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """As `log_weight`, or with the model's bound on log p(v), which gives a bound on log P(x), too."""
        v, log_q = self.cells.lift(x)
        log_p = self.model.log_prob(v, y) if has(self.model, ExactLikelihood) else self.model.elbo(v, y)
        return log_p - cast(log_q, log_p)

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """An estimate of the bound E[log p(v) - log q(v|x)], at one v."""
        v, log_q = self.cells.lift(x)
        log_p = self.model.log_prob_estimate(v, y)
        return log_p - cast(log_q, log_p)

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The energy at the centre of the cell."""
        return self.model.energy(self.cells.centre(x), y)

    @property
    def latent_space(self) -> Space:
        return self.model.latent_space

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The code of the centre of the cell, which decodes to the same x."""
        return self.model.encode(self.cells.centre(x), y)

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        return self.cells.floor(self.model.decode(z, y))

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """A code of x with noise."""
        if has(self.model, Invertible):
            return self.model.encode(self.lift(x), y)
        return self.model.sample_code(self.lift(x), y)

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        """z of v, whose density given x is that of the noise over the Jacobian of z; the floor of decode(z) is x."""
        v, log_q = self.cells.lift(x)
        coded = self.model.encode_and_ladj if has(self.model, Invertible) else self.model.code_and_log_ratio
        z, log_ratio = coded(v, y)
        return z, log_ratio - cast(log_q, log_ratio)

    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        if has(self.model, Invertible):
            return self.decode(z, y)
        return self.cells.floor(self.model.sample_given_code(z, y, seed=seed))


def cast(log_q: Tensor | float, log_p: Tensor) -> Tensor | float:
    """log q in the dtype of log p."""
    return log_q.to(log_p) if isinstance(log_q, Tensor) else log_q
