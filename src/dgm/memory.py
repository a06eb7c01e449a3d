"""The machine's memory: whether tensors and files fit into it, and how freed memory is used again."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from dgm.errors import BadInput
from dgm.space import Space

M = TypeVar("M")

LARGE = 2**28  # bytes of one tensor, from which on a model is sized up before any of it is made
SHARE = 0.25  # of the memory, for the weights: training also needs their gradients and two moving averages
MOST_TENSORS = 4000  # of one model; far above any that learns, and made within a second
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BOMB_BYTES, BOMB_RATIO = 1 << 30, 200  # unpacked size, and its ratio to the packed size, which seldom exceeds 100
COUNTED = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.eye, torch.arange)


def total() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes of available memory: Linux's estimate, in which the disk cache counts as available."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed() -> None:
    """Lets this process keep freed memory for its next tensors, up to 2 GiB, instead of returning it to the system.

    By its defaults glibc returns each freed tensor of 32 MiB or more, and all free memory above 64 MiB at the end of
    its heap, so a step of training with much memory gets the same pages anew, filled with zeros: up to 29 % of its time
    (docs/benchmarks.md). Other C libraries have no such thresholds, and nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def gibibytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


def bounded(make: Callable[[], M], what: str) -> M:
    """The result of ``make``, unless its weights would be larger than a share of the machine's memory.

    If it contains a tensor of at least `LARGE` bytes, it is first made on torch's meta device, which allocates nothing.

    Args:
        what: The owner of the weights, for the error message.
    """
    state = torch.get_rng_state()
    try:
        with Bounded(what, largest=LARGE):
            return make()
    except Large:
        torch.set_rng_state(state)
    # on the meta device, the constructor of a model that reads values of its tensors fails
    with contextlib.suppress(RuntimeError), torch.device("meta"), Bounded(what):
        make()
    with Bounded(what):
        return make()


class Large(Exception):
    """Raised for a large tensor, so that the sizes of all tensors are checked before it is allocated."""


class Bounded(TorchFunctionMode):
    """A context in which the sizes of new tensors are added up before they are allocated.

    Args:
        what: The owner of the tensors, for the error message.
        largest: The largest size of one tensor in bytes.
        most: The largest total size in bytes, if it is less than a share of the memory.

    Raises:
        BadInput: If the total exceeds `SHARE` of the memory, or there are more than `MOST_TENSORS` tensors.
        Large: If one tensor exceeds ``largest``.

    Example:
        >>> with Bounded("vae"):
        ...     torch.empty(10**15)
        Traceback (most recent call last):
        dgm.errors.BadInput: vae of these settings needs 3,725,290.3 GiB for its weights, this machine has ...
    """

    def __init__(self, what: str, largest: float = math.inf, most: float = math.inf) -> None:
        super().__init__()
        self.what, self.largest, self.most = what, largest, most
        self.bytes = self.tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in COUNTED:
            self.count(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def count(self, func: Any, args: Any, kwargs: Any) -> None:
        size = math.prod(shape_of(func, args, kwargs)) * item_size(func, kwargs)
        self.bytes += size
        self.tensors += func is not torch.arange  # which is no weight
        if self.bytes > SHARE * total():
            wrong = f"{self.what} of these settings needs {gibibytes(self.bytes)} for its weights"
            held = f"this machine has {gibibytes(total())} of memory, of which a quarter may be weights"
            raise BadInput(f"{wrong}, {held}", "choose a smaller one, or smaller data")
        if self.bytes > self.most:
            wrong = f"{self.what} needs {gibibytes(self.bytes)} or more, expected at most {gibibytes(self.most)}"
            raise BadInput(wrong, "choose a smaller one")
        if self.tensors > MOST_TENSORS:
            wrong = f"{self.what} of these settings has more than {MOST_TENSORS:,} tensors of weights"
            raise BadInput(wrong, "choose one of fewer layers")
        if size > self.largest:
            raise Large


def shape_of(func: Any, args: Any, kwargs: Any) -> Sequence[int]:
    """The number of elements of the tensor that one of the functions in `COUNTED` makes."""
    if func is torch.arange:
        if not args or not all(isinstance(bound, int) for bound in args):
            return (0,)
        r = range(*args)
        return (max(0, -(-(r.stop - r.start) // r.step)),)
    if func is torch.eye and len(args) == 1:
        return (args[0], args[0])
    shape = args or (kwargs.get("size", ()),)
    return shape if isinstance(shape[0], int) else shape[0]


def item_size(func: Any, kwargs: Any) -> int:
    """The size of one element in bytes."""
    usual = torch.int64 if func is torch.arange else torch.get_default_dtype()
    return (kwargs.get("dtype") or usual).itemsize


def refuse_too_large(what: str, needed: float, remedy: str) -> None:
    """Checks the size of a file or an array before it is read.

    Raises:
        BadInput: If it needs more memory than is available.
    """
    if needed > (free := available()):
        raise BadInput(f"{what} takes {gibibytes(needed)} of memory, {gibibytes(free)} are free", remedy)


def refuse_a_bomb(path: Path, unpacked: int, remedy: str) -> None:
    """Checks the unpacked size of a compressed file before it is unpacked.

    Raises:
        BadInput: If the unpacked data needs more memory than is available, or a small file unpacks to gigabytes.
    """
    packed = path.stat().st_size
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        times = f"{unpacked // max(1, packed):,} times as much"
        raise BadInput(f"{path} has {packed:,} bytes and unpacks to {gibibytes(unpacked)}, {times}", remedy)
    refuse_too_large(f"{path}, unpacked,", unpacked, remedy)


def refuse_too_many(n: int, space: Space) -> None:
    """Checks the number of samples before they are drawn, which may take long.

    Raises:
        BadInput: If ``n`` examples of ``space`` need more memory than is available.
    """
    each = 2 * space.dim * space.dtype.itemsize  # the chunks and their concatenation
    if n * each > available():
        wrong = f"{n:,} samples need {gibibytes(n * each)} of memory, {gibibytes(available())} are free"
        raise BadInput(wrong, f"ask for at most {available() // each:,}")
