"""Which examples each step sees: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dgm.data import Split, order
from dgm.errors import BadInput


class Batches:
    """The global batch of each step, and this process's share of it.

    The end of an epoch that does not fill a batch is left out; another permutation leaves out others. Iterating
    gives one pass over all examples in their own order, for models fitted without gradients.

    Args:
        size: Examples a step over all processes.
        rank, world: This process's number, and how many there are.
    """

    def __init__(self, split: Split, size: int, seed: int, *, rank: int, world: int, device: torch.device) -> None:
        if len(split) == 0:
            raise BadInput("the training split is empty", "give more data")
        self.size = min(size, len(split))
        if self.size % world:
            raise BadInput(
                f"a batch of {self.size} cannot be shared by {world} devices", f"make it a multiple of {world}"
            )
        self.split, self.seed, self.rank, self.world, self.device = split, seed, rank, world, device
        self.in_epoch = len(split) // self.size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> tuple[Tensor, Tensor | None]:
        epoch, place = divmod(step, self.in_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, order(len(self.split), self.seed, epoch)
        rows = self._order[place * self.size : (place + 1) * self.size]
        return self.placed(rows[self.rank :: self.world])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        return map(self.placed, torch.arange(len(self.split)).split(self.size))

    def placed(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        x, y = self.split.batch(rows)
        return x.to(self.device), None if y is None else y.to(self.device)
