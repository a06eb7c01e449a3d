"""Arrays in memory where they fit, else written once into the user's cache and memory-mapped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.data.table import cache

SHARE_OF_MEMORY = 0.25


def stored(shape: tuple[int, ...], dtype: str, fill: Callable[[numpy.ndarray], None], stamp: str) -> Tensor:
    """The tensor that ``fill`` writes, in memory or mapped from a file that is written whole or not at all.

    Args:
        fill: Writes all of the array that it is given.
        stamp: The file's name; another source, or another order of it, needs another.
    """
    if numpy.prod(shape) * numpy.dtype(dtype).itemsize <= SHARE_OF_MEMORY * memory():
        out = numpy.empty(shape, dtype)
        fill(out)
        return torch.from_numpy(out)
    path = cache() / "arrays" / f"{stamp}.npy"
    if not path.is_file():
        write(path, shape, dtype, fill)
    return torch.from_numpy(numpy.load(path, mmap_mode="c", allow_pickle=False))


def write(path: Path, shape: tuple[int, ...], dtype: str, fill: Callable[[numpy.ndarray], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        mapped = numpy.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        fill(mapped)
        mapped.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def stamp(path: Path, files: Iterable[Path], *details: object) -> str:
    """A name for what is made of ``files`` in this order: it changes when one is renamed, moved or written to."""
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{path.stem}-{hashlib.sha256(repr((state, details)).encode()).hexdigest()[:16]}"
