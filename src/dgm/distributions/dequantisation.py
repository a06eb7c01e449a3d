r"""Continuous densities of discrete data.

.. math:: P(x) = \int_{[0,1)^D} p(x + u) \, du \ge \exp E_u[\log p(x + u)]

A density p on the box [0, K)^D is a model of the integers 0 … K - 1: each is the cell above it. p(x + u) at one uniform
u is an importance weight of P(x), and its logarithm a lower bound in expectation.

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dgm.protocols import (
    Batch,
    BoundedLikelihood,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Labels,
    Latent,
    Model,
    MultiPlayer,
    PerExample,
    Progressive,
    Samplable,
    State,
    Trainable,
    Unnormalised,
)
from dgm.seeds import Seed
from dgm.space import Space


def dequantise(model: Model, space: Space) -> nn.Module:
    """``model``, a continuous one of the box [0, K)^D, as a model of the discrete ``space``.

    The wrapper has the methods that the model's own give it: an exact log-density becomes a bound with importance
    weights, bounds and estimates stay what they are.
    """
    parts = tuple(part for protocol, part in PARTS.items() if isinstance(model, protocol))
    return type("Dequantised", (*parts, Dequantised), {"defaults": getattr(type(model), "defaults", {})})(model, space)


class Dequantised(nn.Module):
    """What every dequantised model has: the model within, the discrete space, and the way between them."""

    def __init__(self, model: Model, space: Space) -> None:
        super().__init__()
        self.dequantised = model
        self.space = space
        self.config = model.config
        method = getattr(model, "likelihood_method", "")
        self.likelihood_method = f"{method}, uniform dequantisation".removeprefix(", ")

    def lift(self, x: Batch) -> Tensor:
        """x + u, u uniform on [0, 1)."""
        x = x.to(torch.get_default_dtype())
        # rounding may carry x + u to the next integer, which is another cell's
        return torch.minimum(x + torch.rand_like(x), torch.nextafter(x + 1, x))

    def floor(self, x: Tensor) -> Batch:
        return x.floor().clamp(0, (self.space.values or 0) - 1).to(self.space.dtype)


class _Loss(Dequantised):
    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.dequantised.loss(self.lift(x), y)


class _Losses(Dequantised):
    def losses(self, x: Batch, y: Labels | None = None) -> Iterator[tuple[str, PerExample]]:
        for player, loss in self.dequantised.losses(self.lift(x), y):
            yield f"dequantised.{player}", loss


class _Fit(Dequantised):
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        return self.dequantised.fit(_Lifted(self, batches))


class _Lifted:
    """The batches of each pass, with noise drawn anew."""

    def __init__(self, model: Dequantised, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        self.model, self.batches = model, batches

    def __iter__(self) -> Iterator[tuple[Tensor, Labels | None]]:
        return ((self.model.lift(x), y) for x, y in self.batches)


class _Sample(Dequantised):
    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return self.floor(self.dequantised.sample(n, y, seed=seed))


class _Trajectory(Dequantised):
    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        for state in self.dequantised.trajectory(n, y, seed=seed):
            yield state._replace(x=self.floor(state.x))


class _Bound(Dequantised):
    def log_weight(self, x: Batch, y: Labels | None = None) -> PerExample:
        """log p(x + u) at one uniform u: one importance weight of P(x)."""
        return self.dequantised.log_prob(self.lift(x), y)

    def elbo(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.log_weight(x, y)


class _InnerBound(Dequantised):
    def elbo(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The model's own bound on log p(x + u): one on log P(x) too, by Jensen's inequality twice."""
        return self.dequantised.elbo(self.lift(x), y)


class _InnerWeight(Dequantised):
    def log_weight(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The model's own weight of p(x + u): E over u and the model's draws is P(x)."""
        return self.dequantised.log_weight(self.lift(x), y)


class _Estimate(Dequantised):
    def log_prob_estimate(self, x: Batch, y: Labels | None = None) -> PerExample:
        """An estimate of the bound E[log p(x + u)], at one uniform u."""
        return self.dequantised.log_prob_estimate(self.lift(x), y)


class _Energy(Dequantised):
    def energy(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The energy of the cell's centre."""
        return self.dequantised.energy(x + 0.5, y)


class _Code(Dequantised):
    def encode(self, x: Batch, y: Labels | None = None) -> Tensor:
        """The code of the cell's centre, so that it is decoded to the same x."""
        return self.dequantised.encode(x + 0.5, y)

    def decode(self, z: Tensor, y: Labels | None = None) -> Batch:
        return self.floor(self.dequantised.decode(z, y))


# what the continuous model has -> what the dequantised one has for it; of two that give the same, the first counts
PARTS: dict[Any, type[Dequantised]] = {
    Trainable: _Loss,
    MultiPlayer: _Losses,
    Fittable: _Fit,
    Samplable: _Sample,
    Progressive: _Trajectory,
    ExactLikelihood: _Bound,
    BoundedLikelihood: _InnerBound,
    ImportanceWeighted: _InnerWeight,
    EstimatedLikelihood: _Estimate,
    Unnormalised: _Energy,
    Latent: _Code,
}
