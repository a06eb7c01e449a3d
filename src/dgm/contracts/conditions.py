"""The law of conditional models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgm.contracts.examples import random_examples
from dgm.contracts.outcome import Skipped, require
from dgm.likelihood import kind_of, log_likelihood
from dgm.protocols import Denoising, Model, condition_of, has
from dgm.sampling import sample
from dgm.space import Space

MOST = 8  # dimensions of a condition that are changed, one at a time
DRAWN = 512  # samples that are compared: a small change of a condition moves few of them to another level


@torch.no_grad()
def every_dimension_of_the_condition_has_an_effect(model: Model) -> str:
    """Each dimension of the condition y changes the likelihood, the prediction or the samples."""
    condition = condition_of(model)
    if condition is None:
        raise Skipped("the model has no condition")
    y, output = random_examples(condition, 1), output_of(model)
    first, again = output(y), output(y)
    require(bool(torch.equal(first, again)), "two different outputs for the same condition")
    unused = [d for d in range(min(MOST, condition.dim)) if torch.equal(output(moved(y, d, condition)), first)]
    return require(not unused, f"dimensions {unused} of y change nothing" if unused else f"y in {condition}")


def output_of(model: Model) -> Callable[[Tensor], Tensor]:
    """The output of the model as a function of one condition, (1, *shape), under the same noise in each call."""
    x = random_examples(model.space, 4)
    if has(model, Denoising):  # whose likelihood may need the solution of an ODE
        t, x_t = torch.linspace(0.2, 0.8, 4), torch.randn(4, *model.space.shape)
        return lambda y: model.predict(x_t, t, y.expand(4, *y.shape[1:]))[0]
    if kind_of(model) is None:
        return lambda y: sample(model, DRAWN, y.expand(DRAWN, *y.shape[1:]), seed=0)

    def nats(y: Tensor) -> Tensor:
        torch.manual_seed(0)
        return log_likelihood(model, x, y.expand(4, *y.shape[1:])).nats

    return nats


def moved(y: Tensor, d: int, condition: Space) -> Tensor:
    """A condition that differs in dimension d only."""
    other = y.clone().reshape(1, -1)
    space, value = part_at(d, condition), other[0, d]
    if space.discrete:
        other[0, d] = (
            (value.nan_to_num(-1) + 1) % (space.values or 0)
            if value.is_floating_point()
            else ((value.long() + 1) % (space.values or 0))
        )
    else:
        low, high = space.bounds or (-1.0, 1.0)
        other[0, d] = low if value.nan_to_num(high) > (low + high) / 2 else high
    return other.reshape(y.shape)


def part_at(d: int, condition: Space) -> Space:
    """The part of a record that the d-th column belongs to; the whole space if it is not a record."""
    own = dict(condition.parts)
    return next((own[name] for name, place in condition.places.items() if place.start <= d < place.stop), condition)
