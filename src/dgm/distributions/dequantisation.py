r"""Continuous densities of discrete data.

.. math:: P(x) = \int_{[0,1)^D} p(x + u) \, du \ge \exp E_u[\log p(x + u)]

A density p on the box [0, K)^D is a model of the integers 0 … K - 1: each is the cell above it. p(x + u) at one uniform
u is an importance weight of P(x), and its logarithm a lower bound in expectation.

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dgm.composite import TrainsPart
from dgm.errors import BadInput
from dgm.protocols import (
    Batch,
    BoundedLikelihood,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Invertible,
    Labels,
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
from dgm.seeds import Seed
from dgm.space import Space

# capability of the continuous model -> what the dequantised one has for it
PASSED_ON: Mapping[type, tuple[type, ...]] = {
    Trainable: (Trainable,),
    MultiPlayer: (MultiPlayer,),
    Fittable: (Fittable,),
    Samplable: (Samplable,),
    Progressive: (Progressive,),
    ExactLikelihood: (BoundedLikelihood, ImportanceWeighted),
    BoundedLikelihood: (BoundedLikelihood,),
    ImportanceWeighted: (ImportanceWeighted,),
    EstimatedLikelihood: (EstimatedLikelihood,),
    Unnormalised: (Unnormalised,),
    Latent: (Latent,),
    Stateful: (Stateful,),
    Regularised: (Regularised,),
    Invertible: (Variational,),
    Variational: (Variational,),
}


def box(space: Space) -> Space:
    """[0, K)^D, the real numbers whose cells are the values of a discrete space."""
    return Space.continuous(space.shape, low=0.0, high=float(space.values or 0))


class Dequantised(TrainsPart):
    """A model of `box`, as a model of a discrete space.

    An exact log-density becomes a bound with importance weights, bounds and estimates stay what they are.

    Args:
        space: Discrete and ordered.
        model: A model of ``box(space)``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, space: Space, config: Config, condition: Space | None = None, *, model: Model) -> None:
        super().__init__()
        if model.space != box(space):
            raise BadInput(f"a model of {model.space} cannot be dequantised to {space}", f"give one of {box(space)}")
        self.space, self.config, self.condition = space, config, condition
        self.model = model
        self.defaults = getattr(model, "defaults", {})
        self.capabilities = frozenset(one for own, passed in PASSED_ON.items() if has(model, own) for one in passed)
        method = getattr(model, "likelihood_method", "")
        self.likelihood_method = f"{method}, uniform dequantisation".removeprefix(", ")

    @property
    def parts(self) -> dict[str, Model]:
        return {"model": self.model}

    def lift(self, x: Batch) -> Tensor:
        """x + u, u uniform on [0, 1)."""
        x = x.to(torch.get_default_dtype())
        # rounding may carry x + u to the next integer, which is another cell's
        return torch.minimum(x + torch.rand_like(x), torch.nextafter(x + 1, x))

    def floor(self, x: Tensor) -> Batch:
        return x.floor().clamp(0, (self.space.values or 0) - 1).to(self.space.dtype)

    @property
    def trained_part(self) -> tuple[str, Model]:
        return "model", self.model

    def for_part(self, x: Batch, y: Labels | None) -> tuple[Tensor, Labels | None]:
        return self.lift(x), y

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return self.floor(self.model.sample(n, y, seed=seed))

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        for state in self.model.trajectory(n, y, seed=seed):
            yield state._replace(x=self.floor(state.x))

    def log_weight(self, x: Batch, y: Labels | None = None) -> PerExample:
        """log p(x + u) at one uniform u, or the model's own weight of it: E over u and its draws is P(x)."""
        if has(self.model, ExactLikelihood):
            return self.model.log_prob(self.lift(x), y)
        return self.model.log_weight(self.lift(x), y)

    def elbo(self, x: Batch, y: Labels | None = None) -> PerExample:
        """log p(x + u), or the model's own bound on it: one on log P(x) too, by Jensen's inequality twice."""
        if has(self.model, ExactLikelihood):
            return self.model.log_prob(self.lift(x), y)
        return self.model.elbo(self.lift(x), y)

    def log_prob_estimate(self, x: Batch, y: Labels | None = None) -> PerExample:
        """An estimate of the bound E[log p(x + u)], at one uniform u."""
        return self.model.log_prob_estimate(self.lift(x), y)

    def energy(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The energy of the cell's centre."""
        return self.model.energy(x + 0.5, y)

    @property
    def latent_space(self) -> Space:
        return self.model.latent_space

    def encode(self, x: Batch, y: Labels | None = None) -> Tensor:
        """The code of the cell's centre, so that it is decoded to the same x."""
        return self.model.encode(x + 0.5, y)

    def decode(self, z: Tensor, y: Labels | None = None) -> Batch:
        return self.floor(self.model.decode(z, y))

    def sample_code(self, x: Batch, y: Labels | None = None) -> Tensor:
        """A code of x + u."""
        if has(self.model, Invertible):
            return self.model.encode(self.lift(x), y)
        return self.model.sample_code(self.lift(x), y)

    def code_and_log_ratio(self, x: Batch, y: Labels | None = None) -> tuple[Tensor, PerExample]:
        """z of x + u, whose density given x is that of u over the Jacobian of z; the floor of decode(z) is x."""
        if has(self.model, Invertible):
            return self.model.encode_and_ladj(self.lift(x), y)
        return self.model.code_and_log_ratio(self.lift(x), y)

    def sample_given_code(self, z: Tensor, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        if has(self.model, Invertible):
            return self.decode(z, y)
        return self.floor(self.model.sample_given_code(z, y, seed=seed))
