"""Checkpoints: all that training needs to go on to the same bits."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.runs import replacing, write_json, write_manifest, write_weights

NAMES = ["state.safetensors", "state.json"]


def save(folder: Path, step: int, tensors: dict[str, Tensor], values: dict[str, Any], keep: int) -> None:
    """Writes ``folder/step-…`` and removes all but the ``keep`` newest."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"step-{step:08d}"
    if out.exists():  # resumed, and stopped again before the first step
        shutil.rmtree(out)
    with replacing(out) as temporary:
        temporary.mkdir()
        write_weights(tensors, temporary / NAMES[0])
        write_json(values, temporary / NAMES[1])
        write_manifest(temporary, NAMES)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def sweep(folder: Path) -> None:
    """Removes what a killed process left half-written."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp")]:
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


def restore_random_states(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    torch.set_rng_state(tensors["torch"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        torch.cuda.set_rng_state(tensors[f"cuda{k}"], k)
    name, *rest = values["numpy"]
    numpy.random.set_state((name, tensors["numpy"].numpy().astype(numpy.uint32), *rest))
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))
