"""Sixteen regression tables of the UCI repository, as tables of real numbers whose density is estimated."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch

from dgm.data.dataset import Dataset, consecutive, shuffled
from dgm.errors import BadInput
from dgm.space import Space

SEED = 0  # of the splits


def load(folder: Path, name: str) -> Dataset:
    """Loads one table from its .csv of numbers, without a header; the last column is the target.

    Columns of one value are left out, since their density is unbounded. The rows are shuffled by a fixed seed and split
    into 80 %, 10 % and 10 %; the training split gives the space's location and scale.
    """
    x = read(folder / f"{name}.csv")
    x = x[:, (x != x[0]).any(0)]
    rows, sizes = shuffled(len(x), SEED)
    x = x[rows]
    train = x[: sizes["train"]]
    scale = train.std(0)
    space = Space.continuous(
        (x.shape[1],), loc=tuple(train.mean(0).tolist()), scale=tuple(torch.where(scale > 0, scale, 1.0).tolist())
    )
    split = f"80 % / 10 % / 10 % of the rows, shuffled with seed {SEED}"
    return Dataset(name=name, space=space, split=split, **consecutive(x.float(), None, sizes))


def read(path: Path) -> torch.Tensor:
    """The rows of a .csv file, float64 (N, D)."""
    try:
        x = numpy.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} does not hold rows of numbers: {error}", "copy it again") from error
    if not len(x) or not numpy.isfinite(x).all():
        raise BadInput(f"{path} holds no rows, or a number that is not finite", "copy it again")
    return torch.from_numpy(x)
