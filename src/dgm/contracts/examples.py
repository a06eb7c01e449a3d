"""The small spaces that laws are checked on, and batches of them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from dgm.contracts.outcome import Skipped
from dgm.distributions.dequantisation import Dequantised
from dgm.networks.embeddings import classes_of
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
    """Examples spread over a space."""
    if space.discrete:
        return torch.randint(space.values or 2, (n, *space.shape)).to(space.dtype)
    x = torch.randn(n, *space.shape)
    if space.bounds is not None:
        low, high = space.bounds
        return low + (high - low) * (x / 2).sigmoid()
    return x


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
    """A batch, or a number of samples, with what a model with labels takes besides: the last label for each."""
    n, classes = x if isinstance(x, int) else len(x), classes_of(model)
    return (x, torch.full((n,), classes - 1)) if classes else (x,)


def labels(model: Model, n: int) -> Tensor | None:
    classes = classes_of(model)
    return torch.randint(classes, (n,)) if classes else None
