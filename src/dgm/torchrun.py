"""The processes that torchrun started, and the exchange of their results.

Without torchrun there is one process, and the functions return their arguments unchanged.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_SHAPE = 16  # dimensions of a tensor that is sent
GROUP: ContextVar[Any] = ContextVar("group", default=None)  # of the processes, within `together`


def number_of_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_first() -> bool:
    """Whether this is the process that writes and prints. It is known before the processes are connected."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def together() -> Iterator[None]:
    """A context in which the processes can exchange tensors, by torch's gloo backend."""
    if number_of_processes() == 1:
        yield
        return
    from torch import distributed

    if not distributed.is_initialized():
        connect()
    group = distributed.new_group(backend="gloo")
    token = GROUP.set(group)
    try:
        yield
        distributed.barrier(group)  # the first process hosts the store, so it must not end first
    finally:
        GROUP.reset(token)
        distributed.destroy_process_group(group)


def connect() -> None:
    """Connects the processes until they end.

    A second group at the same address could wait for ever, if a process joined the store of the first group, which the
    first process is about to close.
    """
    from torch import distributed

    distributed.init_process_group()
    disconnect_at_exit()


def disconnect_at_exit() -> None:
    """Ends the process group before the interpreter does: a thread of gloo that needs the interpreter then aborts."""
    atexit.unregister(disconnect)
    atexit.register(disconnect)


def disconnect() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # a training refers to itself and to its group, whose threads end when nothing refers to it


def is_mine(k: int) -> bool:
    """Whether this process computes piece ``k``; the pieces are assigned to the processes in turn."""
    if GROUP.get() is None:
        return True
    from torch import distributed

    return k % distributed.get_world_size() == distributed.get_rank()


def shared(pieces: Sequence[Tensor | None]) -> list[Tensor]:
    """All pieces, in every process; each process passes its own pieces."""
    return [sent(piece, k) if GROUP.get() is not None else piece for k, piece in enumerate(pieces)]  # type: ignore[misc]


def sent(piece: Tensor | None, k: int) -> Tensor:
    """Piece ``k``, sent by the process that computed it: first its type and shape, then its bytes."""
    import torch
    from torch import distributed

    dtypes = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.int32, torch.bfloat16, torch.float16]
    owner = k % distributed.get_world_size()
    about = torch.zeros(2 + LONGEST_SHAPE, dtype=torch.int64)
    if piece is not None:
        about[: 2 + piece.ndim] = torch.tensor([dtypes.index(piece.dtype), piece.ndim, *piece.shape])
    distributed.broadcast(about, owner, GROUP.get())
    kind, ndim, *shape = about.tolist()
    content = torch.empty(shape[:ndim], dtype=dtypes[kind]) if piece is None else piece.detach().cpu().contiguous()
    distributed.broadcast(content.view(-1).view(torch.uint8), owner, GROUP.get())
    return content
