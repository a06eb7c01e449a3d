"""Checkpoints: all that training needs to go on to the same bits."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.runs import replacing, writable, write_json, write_manifest, write_weights

NAMES = ["state.safetensors", "state.json"]


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


def newest(folder: Path) -> Path | None:
    return max(folder.glob("step-*"), default=None)


def forget_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps: they are damaged, or training would go on from them."""
    for found in folder.glob("step-*"):
        if found.name > f"step-{step:08d}":
            shutil.rmtree(found)


def sweep(out: Path, *, everything: bool) -> None:
    """Removes what a killed process left half-written; ``everything``, if it was killed before there was a run."""
    for leftover in [*out.glob(".*.tmp"), *out.glob("checkpoints/*" if everything else "checkpoints/.*.tmp")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def random_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of every generator that a model may draw from, in this process."""
    tensors = {"torch": torch.get_rng_state()}
    tensors |= (
        {f"cuda{k}": state for k, state in enumerate(torch.cuda.get_rng_state_all())}
        if torch.cuda.is_available()
        else {}
    )
    name, keys, *rest = numpy.random.get_state()
    tensors["numpy"] = torch.from_numpy(numpy.asarray(keys).astype(numpy.int64))
    version, numbers, gauss = random.getstate()
    return tensors, {"numpy": [str(name), *rest], "python": [version, list(numbers), gauss]}


def restore_random_states(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["torch"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{k}" in tensors:  # it may go on on a machine with more devices
            torch.cuda.set_rng_state(tensors[f"cuda{k}"], k)
    name, *rest = values["numpy"]
    numpy.random.set_state((name, tensors["numpy"].numpy().astype(numpy.uint32), *rest))
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))
