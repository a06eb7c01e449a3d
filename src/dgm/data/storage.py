"""Arrays in memory if they fit; otherwise they are written once into the user's cache and memory-mapped."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm import memory
from dgm.data.table import cache
from dgm.errors import BadInput
from dgm.files import replacing, sweep

SHARE_OF_MEMORY, SHARE_OF_DISK = 0.25, 0.9


def stored(
    shape: tuple[int, ...], dtype: str, fill: Callable[[numpy.ndarray], None], stamp: str, *, in_memory: bool = True
) -> Tensor:
    """The tensor that ``fill`` writes, in memory or memory-mapped from a file that is written atomically.

    Args:
        fill: Fills the whole array that is its argument.
        stamp: The name of the file; another source, or another order of it, needs another name.
        in_memory: Whether an array that fits into memory stays there and is not written to a file.
    """
    size = math.prod(shape) * numpy.dtype(dtype).itemsize
    if in_memory and size <= SHARE_OF_MEMORY * memory.total():
        out = numpy.empty(shape, dtype)
        fill(out)
        return torch.from_numpy(out)
    path = cache() / "arrays" / f"{stamp}.npy"
    if not path.is_file():
        refuse_full_disk(size, path.parent)
        write(path, shape, dtype, fill)
    return torch.from_numpy(numpy.load(path, mmap_mode="c", allow_pickle=False))


def refuse_full_disk(size: int, folder: Path) -> None:
    """Raises an error if the disk has too little space, after the unfinished files of killed processes are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    free = shutil.disk_usage(folder).free
    if size > SHARE_OF_DISK * free:
        wrong = (
            f"this data takes {memory.gibibytes(size)} as an array, of which {memory.gibibytes(free)} are free on disk"
        )
        raise BadInput(wrong, "ask for smaller or fewer examples, or set DGM_CACHE to another disk")


def write(path: Path, shape: tuple[int, ...], dtype: str, fill: Callable[[numpy.ndarray], None]) -> None:
    with replacing(path) as temporary:
        mapped = numpy.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        fill(mapped)
        mapped.flush()


def stamp(path: Path, files: Iterable[Path], *details: object) -> str:
    """A name for data made from ``files`` in this order; it changes when a file is renamed, moved or modified."""
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{path.stem}-{hashlib.sha256(repr((state, details)).encode()).hexdigest()[:16]}"
