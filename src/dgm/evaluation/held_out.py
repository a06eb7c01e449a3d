"""Held-out examples for reference values, and the training examples that features are fitted on.

A reference value is the metric of a perfect model: of examples from the data distribution that the features were not
fitted on. The last layer of a classifier spreads its training examples further apart than new ones, so training
examples would be too far from the test split. Cross-validation does not help, since the features of two networks cannot
be compared. So one network is trained, for a small data set on one half of the training split; the other half and the
validation split are held out. Generative models are trained on both halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgm.data import Dataset, Split, order
from dgm.data.dataset import matching
from dgm.data.digits import stratified

ENOUGH = 10_000  # held-out examples, at most: the largest usual number of samples
SEED = 0


def fitting_rows(dataset: Dataset) -> Tensor:
    """The training examples that features are fitted on: all but the `reserved` ones.

    Example:
        >>> from dgm.data import load
        >>> len(fitting_rows(load("digits")))
        500
    """
    n = len(dataset.train)
    return order(n, SEED, 0)[: n - reserved(dataset)]


def reserved(dataset: Dataset) -> int:
    """Number of training examples held out from features, which fill the validation split up to `ENOUGH`."""
    return min(len(dataset.train) // 2, max(0, ENOUGH - len(dataset.validation)))


@dataclass(frozen=True)
class HeldOut:
    """The real examples for the reference, which are not in ``split``: those of the other held-out split, and training
    examples that no feature is fitted on; with a ``condition``, (*shape), only examples that have it.
    """

    dataset: Dataset
    split: str = "test"
    condition: Tensor | None = None

    @cached_property
    def parts(self) -> list[tuple[str, Split, Tensor]]:
        """The name of each split, the split and its rows, at most `ENOUGH`."""
        train = self.dataset.train
        unfitted = order(len(train), SEED, 0)[len(train) - reserved(self.dataset) :]
        other = "test" if self.split == "validation" else "validation"
        rows = order(len(self.dataset.splits[other]), SEED, 0)[:ENOUGH]
        candidates = [(other, self.dataset.splits[other], rows), ("train", train, unfitted)]
        return [(name, part, self.given(part, rows)) for name, part, rows in candidates if name != self.split]

    def given(self, split: Split, rows: Tensor) -> Tensor:
        if self.condition is None or split.y is None:
            return rows
        return rows[matching(split.y[rows], self.condition)]

    def __len__(self) -> int:
        return sum(len(rows) for _, _, rows in self.parts)

    @cached_property
    def y(self) -> Tensor | None:
        """The labels; None if the data has none."""
        if not self.dataset.labels:
            return None
        labels = [split.y[rows] for _, split, rows in self.parts if split.y is not None]
        return torch.cat(labels) if len(labels) == len(self.parts) else None

    def draw(self, n: int, seed: int) -> Tensor:
        """``n`` examples, (n, *shape), without replacement, stratified by label."""
        chosen, start, parts_drawn = drawn_rows(self.y, len(self), n, seed), 0, []
        for _, split, rows in self.parts:
            indices = chosen[(chosen >= start) & (chosen < start + len(rows))] - start
            parts_drawn.append(split.batch(rows[indices], torch.Generator().manual_seed(seed))[0])
            start += len(rows)
        return torch.cat(parts_drawn)

    def description(self) -> str:
        return " and ".join(f"{len(rows):,} of the {name} split" for name, _, rows in self.parts if len(rows))


def drawn_rows(y: Tensor | None, of: int, n: int, seed: int) -> Tensor:
    """``n`` of ``of`` rows without replacement, stratified by label where there are labels."""
    return order(of, seed, 1)[:n] if y is None else stratified(y, {"drawn": n, "left": of - n}, seed)["drawn"]
