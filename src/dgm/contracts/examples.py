"""The small spaces that laws are checked on, and batches of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from dgm.contracts.outcome import Skipped
from dgm.distributions.dequantisation import Dequantised
from dgm.networks.conditions import labels_of
from dgm.protocols import Model, condition_of, nested
from dgm.space import Space

PLANE = Space.continuous((2,))
RECORD = Space.record(
    flag=Space.binary((), optional=True),
    job=Space.categories(3),
    pay=Space.continuous((), loc=(3.0,), scale=(2.0,), optional=True),
)
SMALL: tuple[Space, ...] = (
    Space.binary((1, 3, 3)),
    Space.levels((1, 2, 2), 3),
    Space.levels((1,), 256),  # as fine as a picture's: what holds of three levels may fail of many
    Space.tokens(3, 3),
    PLANE,
    Space.continuous((2,), low=0.0, high=4.0),
    RECORD,
)
REACH, STEPS = 6.0, 24  # of a grid of a record's real number: to either side of its location, in its scale; its points


def everything(space: Space) -> Tensor:
    """All examples of a small discrete space; of a record all that `record_support` has."""
    if space.kind == "record":
        return record_support(space)[0]
    values = range(space.values or 0)
    rows = torch.tensor(list(itertools.product(values, repeat=space.dim)))
    return rows.reshape(-1, *space.shape).to(space.dtype)


def all_examples(space: Space) -> Tensor:
    if not is_small(space):
        raise Skipped("the space is too large to sum over")
    return everything(space)


def some(space: Space, n: int = 8) -> Tensor:
    """Examples spread over a space; of those that may be missing, about a third are."""
    if space.kind == "record":
        return torch.cat([_column(part, n) for _, part in space.parts], 1)
    if space.discrete:
        return torch.randint(space.values or 2, (n, *space.shape)).to(space.dtype)
    x = torch.randn(n, *space.shape)
    if space.bounds is not None:
        low, high = space.bounds
        return low + (high - low) * (x / 2).sigmoid()
    return x


def _column(part: Space, n: int) -> Tensor:
    """(n, D) float64, of one part of a record."""
    values = some(part, n).double().reshape(n, -1)
    return torch.where(torch.rand(n, 1) < 1 / 3, math.nan, values) if part.optional else values


def plane(space: Space = PLANE) -> tuple[Tensor, float]:
    """The midpoints of a grid on the space's own square, or on [-12, 12]², and the area of a cell."""
    (low, high), cells = (space.bounds, 50) if space.bounds else ((-12.0, 12.0), 100)
    side = torch.linspace(low, high, cells + 1)
    middle = (side[1:] + side[:-1]) / 2
    return torch.cartesian_prod(middle, middle), float(side[1] - side[0]) ** 2


def is_plane(space: Space) -> bool:
    return space.kind == "continuous" and space.shape == (2,)


def is_dequantised(model: Model) -> bool:
    """Whether x is counted, and a part of the model has a density of real numbers for it."""
    return any(isinstance(part, Dequantised) for part in nested(model))


def is_small(space: Space) -> bool:
    if space.kind == "record":
        return math.prod(len(values_of(part)[0]) for _, part in space.parts) <= 4096
    return space.discrete and (space.values or 0) ** space.dim <= 4096


def record_support(space: Space) -> tuple[Tensor, Tensor]:
    """All combinations of a record's discrete values, gaps and points of grids of its real numbers; their measure."""
    columns, measures = zip(*(values_of(part) for _, part in space.parts), strict=True)
    return torch.cartesian_prod(*columns), torch.cartesian_prod(*measures).prod(1)


def values_of(part: Space) -> tuple[Tensor, Tensor]:
    """All values of one number of a record, or a grid of them, and NaN where it may be missing; their measure."""
    if part.dim > 1:
        raise Skipped("parts of several numbers are too many to sum over")
    if part.discrete:
        values, width = torch.arange(part.values or 0).double(), 1.0
    else:
        loc, scale = part.loc[0] if part.loc else 0.0, part.scale[0] if part.scale else 1.0
        low, high = part.bounds or (loc - REACH * scale, loc + REACH * scale)
        width = (high - low) / STEPS
        values = low + width * (torch.arange(STEPS).double() + 0.5)
    measure = torch.full_like(values, width)
    if part.optional:
        values, measure = (
            torch.cat([values, values.new_full((1,), math.nan)]),
            torch.cat([measure, measure.new_ones(1)]),
        )
    return values, measure


def support(space: Space) -> tuple[Tensor, Tensor | float]:
    """All x of a small space and 1, or a grid and the measure of its cells."""
    if is_plane(space):
        return plane(space)
    x = all_examples(space)
    return (x, record_support(space)[1]) if space.kind == "record" else (x, 1.0)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Where two batches hold the same, a missing value being the same as another."""
    return (a == b) | (a.isnan() & b.isnan())


def changed(space: Space, x: Tensor, dim: int) -> Tensor:
    """``x`` with another value in one of its flattened dimensions, another one for each example."""
    other = x.clone()
    flat = other.view(len(x), -1)
    values = space.values
    if space.kind == "record":
        values = [part.values for _, part in space.parts for _ in range(part.dim)][dim]
    value = flat[:, dim].double().nan_to_num(0.0) + 1  # in double, since 256 is no uint8
    flat[:, dim] = (value % values if values else value).to(x.dtype)
    return other


def under(model: Model, x: Tensor | int) -> tuple[Any, ...]:
    """A batch, or a number of samples, with what a conditional model takes besides: one condition, the same for each,
    the last one of labels.
    """
    n, classes, condition = x if isinstance(x, int) else len(x), labels_of(model), condition_of(model)
    if classes:
        return (x, torch.full((n,), classes - 1))
    if condition is None:
        return (x,)
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        return (x, some(condition, 1).expand(n, *condition.shape))


def labels(model: Model, n: int) -> Tensor | None:
    """Conditions spread over their space; None for a model without."""
    classes, condition = labels_of(model), condition_of(model)
    if classes:
        return torch.randint(classes, (n,))
    return None if condition is None else some(condition, n)
