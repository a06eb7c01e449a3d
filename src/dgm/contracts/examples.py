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
from dgm.protocols import Model, nested
from dgm.space import Space

PLANE = Space.continuous((2,))
SMALL: tuple[Space, ...] = (
    Space.binary((1, 3, 3)),
    Space.levels((1, 2, 2), 3),
    Space.levels((1,), 256),  # as fine as a picture's: what holds of three levels may fail of many
    Space.tokens(3, 3),
    PLANE,
    Space.continuous((2,), low=0.0, high=4.0),
)


def everything(space: Space) -> Tensor:
    """All examples of a small discrete space."""
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
    (low, high), cells = (space.bounds, 200) if space.bounds else ((-12.0, 12.0), 400)
    side = torch.linspace(low, high, cells + 1)
    middle = (side[1:] + side[:-1]) / 2
    return torch.cartesian_prod(middle, middle), float(side[1] - side[0]) ** 2


def is_plane(space: Space) -> bool:
    return space.kind == "continuous" and space.shape == (2,)


def is_dequantised(model: Model) -> bool:
    """Whether x is counted, and a part of the model has a density of real numbers for it."""
    return any(isinstance(part, Dequantised) for part in nested(model))


def is_small(space: Space) -> bool:
    return space.discrete and (space.values or 0) ** space.dim <= 4096


def support(space: Space) -> tuple[Tensor, float]:
    """All x of a small space and 1, or a grid of the plane and the area of a cell."""
    return plane(space) if is_plane(space) else (all_examples(space), 1.0)


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


def condition_of(model: Model) -> Space | None:
    return getattr(model, "condition", None)
