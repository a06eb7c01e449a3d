"""Checkpoints: the whole state of a training, so that a resumed training has the same bits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.files import replacing, writable, write_json
from dgm.tensor_files import STATE as NAMES
from dgm.tensor_files import sha256, shard_name, write_manifest, write_weights
from dgm.training.devices import broadcast, gathered
from dgm.training.sharding import is_sharded, local


def save(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any], keep: int) -> None:
    """Writes ``folder/step-…`` and removes all but the ``keep`` newest."""
    out = folder / f"step-{values['step']:08d}"
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.mkdir()
        write_weights(tensors, temporary / NAMES[0])
        write_json(values, temporary / NAMES[1])
        write_manifest(temporary, NAMES)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def save_shards(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any], keep: int, fabric: Any) -> None:
    """`save` for tensors that are sharded over processes. Each process writes a file of its rows; the first process
    writes the other tensors too.

    All processes must share a file system. If one process fails, all fail.
    """
    out, first = folder / f"step-{values['step']:08d}", fabric.is_global_zero
    rank, world = fabric.global_rank, fabric.world_size
    with ExitStack() as stack:
        if first:
            with writable(folder):
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(replacing(out)).mkdir()
        temporary = out.with_name(f".{out.name}.{of_first(os.getpid(), fabric)}.tmp")
        mine = {name: local(tensor) for name, tensor in tensors.items() if first or is_sharded(tensor)}
        digest, failure = bytes(32), None
        try:
            write_weights(mine, temporary / shard_name(rank, world))
            digest = bytes.fromhex(sha256(temporary / shard_name(rank, world)))
        except BadInput as error:
            failure = error
        digests = gathered(fabric, torch.tensor(list(digest), dtype=torch.uint8)[None])
        if not all(row.any() for row in digests):
            raise failure or BadInput(f"{out} cannot be written by another process", "look at its own message")
        if first:
            write_json(values, temporary / NAMES[1])
            names = {shard_name(k, world): bytes(row.tolist()).hex() for k, row in enumerate(digests)}
            write_json(names | {NAMES[1]: sha256(temporary / NAMES[1])}, temporary / "manifest.json")
    fabric.barrier()
    if first:
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)


def of_first(number: int, fabric: Any) -> int:
    """The value of ``number`` in the first process."""
    shared = torch.tensor(number)
    broadcast(shared, fabric)
    return int(shared)


def all_of(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("step-*"))


def newest(folder: Path) -> Path | None:
    return max(all_of(folder), default=None)


def forget_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps: they are damaged, since training resumes from the newest good one."""
    for checkpoint in folder.glob("step-*"):
        if checkpoint.name > f"step-{step:08d}":
            shutil.rmtree(checkpoint)


def sweep(out: Path, *, everything: bool) -> None:
    """Removes the unfinished files of a killed process; ``everything`` if the process ended before the run began."""
    for leftover in {*out.glob(".*.tmp"), *out.glob("*/.*.tmp"), *(out.glob("checkpoints/*") if everything else ())}:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
