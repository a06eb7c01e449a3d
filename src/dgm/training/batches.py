"""The examples of each step: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dgm.data import Split
from dgm.errors import BadInput


class Batches:
    """The global batch of each step, and this process's share of it.

    The last examples of an epoch are left out if they do not fill a batch; they differ between epochs. Iteration is one
    pass over all examples in their own order, for models that are fitted without gradients.

    Args:
        size: The number of examples in a step over all processes.
        rank, world: The number of this process, and the number of processes.
    """

    def __init__(self, split: Split, size: int, seed: int, *, rank: int, world: int, device: torch.device) -> None:
        if len(split) == 0:
            raise BadInput("the training split is empty", "give more data")
        self.size = min(size, len(split))
        if self.size % world:
            raise BadInput(
                f"a batch of {self.size} cannot be shared by {world} devices", f"make it a multiple of {world}"
            )
        self.split, self.seed, self.rank, self.world, self.device = resident(split, device), seed, rank, world, device
        self.in_epoch = len(split) // self.size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> tuple[Tensor, Tensor | None]:
        epoch, place = divmod(step, self.in_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.split.order(self.seed, epoch)
        rows = self._order[place * self.size : (place + 1) * self.size]
        return self.placed(rows[self.rank :: self.world])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        return map(self.placed, torch.arange(len(self.split)).split(self.size))

    def placed(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        x, y = self.split.batch(moved(rows, self.split.x.device))
        return moved(x, self.device), None if y is None else moved(y, self.device)


SHARE_OF_MEMORY = 0.25  # the share of the device's free memory for the training data


def resident(split: Split, device: torch.device) -> Split:
    """The split on the device if the device has enough memory, so that batches need no copy.

    A split with a transform stays on the CPU, whose generator the transform uses. Examples that are decoded when their
    batch is loaded stay on the CPU too.
    """
    if device.type != "cuda" or split.transform is not None or not isinstance(split.x, Tensor):
        return split
    tensors = [split.x] if split.y is None else [split.x, split.y]
    if sum(tensor.nbytes for tensor in tensors) > SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]:
        return split
    return replace(split, x=split.x.to(device), y=None if split.y is None else split.y.to(device))


def moved(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. The copy to a GPU is asynchronous, from pinned memory."""
    pinned = x.pin_memory() if device.type == "cuda" and x.device.type == "cpu" else x
    return pinned.to(device, non_blocking=True)
