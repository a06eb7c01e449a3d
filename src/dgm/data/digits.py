"""Scikit-learn's handwritten digits: the test set of the UCI Optical Recognition of Handwritten Digits, 8×8.

Source: Combining Multiple Classifiers for Handwritten Digit Recognition (Kaynak, 1995); 17 levels a pixel, ten labels.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Conditions, Dataset, consecutive
from dgm.data.stacked import stacked as stack
from dgm.errors import MissingExtra
from dgm.space import Space

SPLIT_SEED = 1797
SIZES = {"train": 1000, "validation": 300, "test": 497}


def load(_: str = "") -> Dataset:
    x, y = read()
    rows = torch.cat(list(stratified(y, SIZES, SPLIT_SEED).values()))
    return Dataset(
        name="digits",
        space=Space.levels((1, 8, 8), 17),
        split=f"1,000 / 300 / 497, stratified by label, seed {SPLIT_SEED}",
        **consecutive(x[rows], Conditions.of_labels(y[rows], "0123456789"), SIZES),
    )


def stacked(_: str = "") -> Dataset:
    """Three independent digits as the channels of an image; see `dgm.data.stacked.stacked`."""
    return stack(load(), "stacked_digits", channels=3, copies=10)


def read() -> tuple[Tensor, Tensor]:
    """All 1,797 images, uint8 (N, 1, 8, 8), and their labels. Reads scikit-learn's file without its slow import."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise MissingExtra(
            "the data set digits needs scikit-learn, which is not installed", "run: pip install scikit-learn"
        )
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        rows = numpy.loadtxt(file, delimiter=",", dtype=numpy.uint8)
    return torch.from_numpy(rows[:, :64].reshape(-1, 1, 8, 8).copy()), torch.from_numpy(rows[:, 64].astype(numpy.int64))


def stratified(y: Tensor, sizes: dict[str, int], seed: int) -> dict[str, Tensor]:
    """The row numbers of each split; each label has its share in each split, to within one example.

    The rows are shuffled and then sorted by their rank within their label, so each label has its share in any
    consecutive rows of that order.
    """
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    rank = torch.empty(len(y))
    for label in y.unique():
        mine = (y[shuffled] == label).nonzero().flatten()
        rank[mine] = (torch.arange(len(mine)) + 0.5) / len(mine)
    ordered = shuffled[rank.argsort(stable=True)]
    # consecutive rows of that order have the share of each label; the order within a split has no effect
    return dict(zip(sizes, ordered.split(list(sizes.values())), strict=True))
