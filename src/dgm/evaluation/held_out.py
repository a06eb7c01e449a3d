"""Which real examples are put in the samples' place, and which ones features are fitted on.

Held-out examples are to be what a perfect model's samples would be, beside the test split: drawn from the data, and new
to whatever computes the features. A classifier's last layer spreads the examples that it was trained on further apart
than others, so training examples in the samples' place are further from the test split than new ones are. Networks of a
cross-validation would be new to each training example, but every one of them has a space of its own, with no distance
between one network's features and another's. So one network is trained, on a small set on a half of the training split,
and the other half and the validation split are held out from it. Models are trained on both halves all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgm.data import Dataset, Split, order
from dgm.data.dataset import same_as
from dgm.data.digits import stratified

ENOUGH = 10_000  # held-out examples beside the test split: as many as the largest usual N
SEED = 0


def fitting_rows(dataset: Dataset) -> Tensor:
    """The training examples that features are fitted on: all, but as many as `ENOUGH` still lacks, at most a half.

    Example:
        >>> from dgm.data import load
        >>> len(fitting_rows(load("digits")))
        500
    """
    n = len(dataset.train)
    return order(n, SEED, 0)[: n - kept_back(dataset)]


def kept_back(dataset: Dataset) -> int:
    return min(len(dataset.train) // 2, max(0, ENOUGH - len(dataset.validation)))


@dataclass(frozen=True)
class HeldOut:
    """The real examples beside ``split``: of another held-out split, and those that no feature is fitted on; where a
    ``condition`` is given, (*shape), those that have it.
    """

    dataset: Dataset
    split: str = "test"
    condition: Tensor | None = None

    @cached_property
    def parts(self) -> list[tuple[str, Split, Tensor]]:
        """Each with the name of the split and the rows, `ENOUGH` at most."""
        train = self.dataset.train
        unfitted = order(len(train), SEED, 0)[len(train) - kept_back(self.dataset) :]
        other = "test" if self.split == "validation" else "validation"
        rows = order(len(self.dataset.splits[other]), SEED, 0)[:ENOUGH]
        found = [(other, self.dataset.splits[other], rows), ("train", train, unfitted)]
        return [(name, part, self.having(part, rows)) for name, part, rows in found if name != self.split]

    def having(self, split: Split, rows: Tensor) -> Tensor:
        if self.condition is None or split.y is None:
            return rows
        return rows[same_as(split.y[rows], self.condition)]

    def __len__(self) -> int:
        return sum(len(rows) for _, _, rows in self.parts)

    @cached_property
    def y(self) -> Tensor | None:
        """The labels; None where there are none."""
        if not self.dataset.labels:
            return None
        labels = [split.y[rows] for _, split, rows in self.parts if split.y is not None]
        return torch.cat(labels) if len(labels) == len(self.parts) else None

    def draw(self, n: int, seed: int) -> Tensor:
        """``n`` examples, (n, *shape), without replacement; every label in proportion."""
        chosen, start, found = drawn_rows(self.y, len(self), n, seed), 0, []
        for _, split, rows in self.parts:
            mine = chosen[(chosen >= start) & (chosen < start + len(rows))] - start
            found.append(split.batch(rows[mine], torch.Generator().manual_seed(seed))[0])
            start += len(rows)
        return torch.cat(found)

    def words(self) -> str:
        return " and ".join(f"{len(rows):,} of the {name} split" for name, _, rows in self.parts if len(rows))


def drawn_rows(y: Tensor | None, of: int, n: int, seed: int) -> Tensor:
    """``n`` of ``of`` rows without replacement, every label in proportion where there are labels."""
    return order(of, seed, 1)[:n] if y is None else stratified(y, {"drawn": n, "left": of - n}, seed)["drawn"]
