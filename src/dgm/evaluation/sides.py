"""The two sides of a comparison, each a trained model or a data set: their examples and their densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.errors import BadInput
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.likelihood import log_likelihood
from dgm.modes import evaluating
from dgm.networks.conditions import conditions_to_draw, labels_of
from dgm.protocols import ExactLikelihood, Model, Samplable, Unnormalised, condition_of, has
from dgm.sampling import sample
from dgm.seeds import mix
from dgm.space import Space

OTHERS = 5  # draws of held-out examples of a data set


@dataclass(frozen=True)
class Side:
    """A model, or a data set where there is no model.

    Attributes:
        name: For the heading of a table.
        dataset: The data set itself, or that of the model's run, on which features are fitted.
        model: Its samples are the examples; None for the examples of ``split``.
    """

    name: str
    dataset: Dataset
    model: Model | None = None
    split: str = "test"
    seed: int = 0

    @property
    def space(self) -> Space:
        return self.dataset.space if self.model is None else self.model.space

    def most(self) -> float:
        """The largest number of examples."""
        return len(self.dataset.splits[self.split]) if self.model is None else math.inf

    def draw(self, n: int) -> Tensor:
        """n examples, (n, *shape): stratified by label, or samples of ``seed``."""
        if self.model is not None:
            return samples_of(self.model, n, self.seed)
        split = self.dataset.splits[self.split]
        rows = drawn_rows(split.y if self.dataset.labels else None, len(split), n, self.seed)
        return split.batch(rows, torch.Generator().manual_seed(self.seed))[0]

    def others(self, n: int) -> list[Tensor]:
        """Other examples of the same distribution: held-out ones, several draws; or one set of samples of other seeds.

        Empty for a data set that has fewer outside of its split.
        """
        if self.model is not None:
            return [samples_of(self.model, n, mix(self.seed, 1) >> 1)]
        pool = HeldOut(self.dataset, self.split)
        return [pool.draw(n, k) for k in range(OTHERS)] if len(pool) >= n else []

    def description(self, n: int) -> str:
        return f"{n:,} samples of seed {self.seed}" if self.model else f"{n:,} of the {self.split} split"

    @cached_property
    def log_prob(self) -> Callable[[Tensor], Tensor] | None:
        """log p(x) in nats, (N,), if it is known: of a model with an exact likelihood, of data whose truth is known."""
        model = self.model
        if model is None:
            return self.dataset.log_prob
        marginal = condition_of(model) is not None
        if not has(model, ExactLikelihood) or (marginal and not labels_of(model)):
            return None
        return lambda x: log_likelihood(model, x, marginal=marginal).nats.double().cpu()

    @cached_property
    def log_density(self) -> Callable[[Tensor], Tensor] | None:
        """log p(x) up to a constant, differentiable in x, of an unconditional distribution of real numbers."""
        model = self.model
        if model is None:
            return self.dataset.log_prob
        if condition_of(model) is not None or model.space.kind != "continuous":
            return None
        if has(model, ExactLikelihood):
            return evaluated_by(model, lambda x: model.log_prob(x))
        return evaluated_by(model, lambda x: -model.energy(x)) if has(model, Unnormalised) else None


def evaluated_by(model: Model, log_density: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def of(x: Tensor) -> Tensor:
        with evaluating(model):
            return log_density(x)

    return of


def samples_of(model: Model, n: int, seed: int) -> Tensor:
    return sample(model, n, conditions_to_draw(model, n, seed), seed=seed)


def checked(a: Side, b: Side) -> None:
    """Checks that the two sides can be compared.

    Raises:
        BadInput: If one has no examples, or their examples are of different spaces or columns.
    """
    for side in (a, b):
        if side.model is not None and not has(side.model, Samplable):
            raise BadInput(f"{side.name} cannot be sampled", "give a model that has samples, or a data set")
    if interface(a.space) != interface(b.space):
        raise BadInput(f"{a.name} is of {a.space}, {b.name} of {b.space}", "give two of one space")
    columns = [[(column.name, column.values) for column in side.dataset.columns] for side in (a, b)]
    if columns[0] != columns[1]:
        wrong = f"the columns of {a.name} and of {b.name} differ in name or in categories"
        raise BadInput(wrong, "give two tables of the same columns")


def interface(space: Space) -> Space:
    """The space without the values that are measured on training data: location, scale and bounds."""
    parts = tuple((name, interface(part)) for name, part in space.parts)
    return replace(space, loc=(), scale=(), low=None, high=None, parts=parts)
