"""The small spaces that laws are checked on, and examples of them."""

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
    Space.levels((1,), 256),  # as many levels as an image has: a law may hold with three levels and fail with many
    Space.tokens(3, 3),
    PLANE,
    Space.continuous((2,), low=0.0, high=4.0),
    RECORD,
)
# the grid for a real number of a record: its reach to either side of the location, in scales, and its number of points
REACH, POINTS = 6.0, 24


def all_examples(space: Space) -> Tensor:
    """All examples of a small discrete space; for a record, those of `record_support`."""
    if space.kind == "record":
        return record_support(space)[0]
    values = range(space.values or 0)
    rows = torch.tensor(list(itertools.product(values, repeat=space.dim)))
    return rows.reshape(-1, *space.shape).to(space.dtype)


def all_examples_or_skip(space: Space) -> Tensor:
    if not is_small(space):
        raise Skipped("the space is too large to sum over")
    return all_examples(space)


def random_examples(space: Space, n: int = 8) -> Tensor:
    """Random examples from all of a space; about a third of the optional values of a record are missing."""
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
    """(n, D) float64, random values of one part of a record."""
    values = random_examples(part, n).double().reshape(n, -1)
    return torch.where(torch.rand(n, 1) < 1 / 3, math.nan, values) if part.optional else values


def plane_grid(space: Space = PLANE, finer: int = 1) -> tuple[Tensor, float]:
    """The midpoints of a grid within the bounds of the space, or within [-12, 12]², and the area of a cell.

    Args:
        finer: By which the sides of the cells are divided.
    """
    (low, high), cells = (space.bounds, 50 * finer) if space.bounds else ((-12.0, 12.0), 100 * finer)
    side = torch.linspace(low, high, cells + 1)
    middle = (side[1:] + side[:-1]) / 2
    return torch.cartesian_prod(middle, middle), float(side[1] - side[0]) ** 2


def is_plane(space: Space) -> bool:
    return space.kind == "continuous" and space.shape == (2,)


def is_dequantised(model: Model) -> bool:
    """Whether the model dequantises discrete data."""
    return any(isinstance(part, Dequantised) for part in nested(model))


def is_small(space: Space) -> bool:
    if space.kind == "record":
        return math.prod(len(values_of(part)[0]) for _, part in space.parts) <= 4096
    return space.discrete and (space.values or 0) ** space.dim <= 4096


def record_support(space: Space) -> tuple[Tensor, Tensor]:
    """All combinations of a record's values, with NaN for a missing one and a grid for a real one; their measure."""
    columns, measures = zip(*(values_of(part) for _, part in space.parts), strict=True)
    return torch.cartesian_prod(*columns), torch.cartesian_prod(*measures).prod(1)


def values_of(part: Space) -> tuple[Tensor, Tensor]:
    """All values of one part of a record, a grid for a real number, with NaN if it is optional; their measure."""
    if part.dim > 1:
        raise Skipped("a part of several numbers has too many values to sum over")
    if part.discrete:
        values, width = torch.arange(part.values or 0).double(), 1.0
    else:
        loc, scale = part.loc[0] if part.loc else 0.0, part.scale[0] if part.scale else 1.0
        low, high = part.bounds or (loc - REACH * scale, loc + REACH * scale)
        width = (high - low) / POINTS
        values = low + width * (torch.arange(POINTS).double() + 0.5)
    measure = torch.full_like(values, width)
    if part.optional:
        values, measure = (
            torch.cat([values, values.new_full((1,), math.nan)]),
            torch.cat([measure, measure.new_ones(1)]),
        )
    return values, measure


def support(space: Space) -> tuple[Tensor, Tensor | float]:
    """All x of a small discrete space and 1, or the points of a grid and the measure of its cells."""
    if is_plane(space):
        return plane_grid(space)
    x = all_examples_or_skip(space)
    return (x, record_support(space)[1]) if space.kind == "record" else (x, 1.0)


def equal_values(a: Tensor, b: Tensor) -> Tensor:
    """Whether each value of two batches is equal; two missing values are equal."""
    return (a == b) | (a.isnan() & b.isnan())


def with_changed_value(space: Space, x: Tensor, dim: int) -> Tensor:
    """``x`` with a different value in one of its flattened dimensions."""
    other = x.clone()
    flat = other.view(len(x), -1)
    values = space.values
    if space.kind == "record":
        values = [part.values for _, part in space.parts for _ in range(part.dim)][dim]
    value = flat[:, dim].double().nan_to_num(0.0) + 1  # in double, since uint8 cannot hold 256
    flat[:, dim] = (value % values if values else value).to(x.dtype)
    return other


def with_condition(model: Model, x: Tensor | int) -> tuple[Any, ...]:
    """The arguments of a method: a batch or a number of samples and, for a conditional model, the condition.

    All examples have the same condition: the last label, or a random example of another space.
    """
    n, classes, condition = x if isinstance(x, int) else len(x), labels_of(model), condition_of(model)
    if classes:
        return (x, torch.full((n,), classes - 1))
    if condition is None:
        return (x,)
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        return (x, random_examples(condition, 1).expand(n, *condition.shape))


def random_conditions(model: Model, n: int) -> Tensor | None:
    """Random conditions; None for an unconditional model."""
    classes, condition = labels_of(model), condition_of(model)
    if classes:
        return torch.randint(classes, (n,))
    return None if condition is None else random_examples(condition, n)
