"""Files of tensors: weights and the state of a training as safetensors, with a manifest of their sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dgm import documents, memory
from dgm.documents import read as read_json
from dgm.errors import BadInput, DamagedRun
from dgm.files import replacing, write_json

WEIGHTS = ["weights.safetensors"]
STATE, FROZEN = ["state.safetensors", "state.json"], "frozen.safetensors"
MOST_SHARDS = 100_000


def write_weights(weights: Mapping[str, Tensor], out: Path) -> None:
    """Writes tensors as safetensors. Each tensor is copied, since the format rejects tensors that share memory."""
    with replacing(out) as temporary:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, temporary)


def read_weights(path: Path) -> dict[str, Tensor]:
    with unreadable(path):
        held, most = path.stat().st_size, memory.available()
        if held > most:
            wrong = f"{path} has {memory.gibibytes(held)}, {memory.gibibytes(most)} of memory are free"
            raise BadInput(wrong, "use a machine with more memory")
        return load_file(path)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A context that turns the errors of an invalid safetensors file into a `DamagedRun` of one line."""
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError, LookupError) as error:
        raise DamagedRun(f"{path} cannot be read: {error}", "take the file from a copy, or train again") from error


def shard_name(process: int, processes: int) -> str:
    return f"state-{process:05d}-of-{processes:05d}.safetensors"


class Shards(Mapping[str, Tensor]):
    """The tensors of several safetensors files, read on access. The rows of a tensor in all files are concatenated."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files, self.places = [], dict[str, list[int]]()
        for k, path in enumerate(paths):
            with unreadable(path):
                self.files.append(safetensors.safe_open(path, "pt"))
            for name in self.files[-1].keys():  # noqa: SIM118
                self.places.setdefault(name, []).append(k)

    def __getitem__(self, name: str) -> Tensor:
        rows = [self.files[k].get_tensor(name) for k in self.places[name]]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def frozen_weights(out: Path, digest: str) -> dict[str, Tensor]:
    """The weights of the frozen parts of the run in ``out``, whose sha256 must be ``digest``; none if it is ""."""
    if not digest:
        return {}
    if not (out / FROZEN).is_file():
        raise DamagedRun(f"{out / FROZEN} is missing", documents.REMEDY)
    if sha256(out / FROZEN) != digest:
        raise DamagedRun(f"{out / FROZEN} is damaged: its sha256 is not the checkpoint's", "take it from a copy")
    return read_weights(out / FROZEN)


def write_manifest(folder: Path, names: list[str]) -> None:
    write_json({name: sha256(folder / name) for name in names}, folder / "manifest.json")


def check_manifest(folder: Path, names: list[str]) -> dict[str, str]:
    """Checks the sha256 of the files of a folder against its manifest and returns them. This detects damage, but not
    manipulation: anyone can write another manifest.

    Raises:
        DamagedRun: If a file is missing or differs, with its name, or the manifest has other files.
    """
    path = folder / "manifest.json"
    manifest: dict[str, str] = documents.checked(read_json(path), dict[str, str], path)
    if sorted(manifest) != sorted(names):
        listed = ", ".join(sorted(manifest)) or "nothing"
        raise DamagedRun(f"{path} lists {listed}, expected {', '.join(names)}", documents.REMEDY)
    for name in names:
        if not (folder / name).is_file():
            raise DamagedRun(f"{folder / name} is missing", documents.REMEDY)
        if sha256(folder / name) != manifest[name]:
            raise DamagedRun(f"{folder / name} is damaged: its sha256 is not the manifest's", "take it from a copy")
    return manifest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_state(folder: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The tensors and plain values of one checkpoint.

    Raises:
        DamagedRun: If a file is missing, or is not the one that was written.
    """
    shards = state_files(folder)
    check_manifest(folder, [*shards, STATE[1]])
    values = documents.checked(read_json(folder / STATE[1]), documents.State, folder / STATE[1])
    paths = [folder / name for name in shards]
    return read_weights(paths[0]) if len(paths) == 1 else Shards(paths), values


def state_files(folder: Path) -> list[str]:
    """The files of a checkpoint's tensors: one file, or one file for each process of a sharded training."""
    stem = next((path.stem for path in folder.glob("state-*-of-*.safetensors")), "")
    processes = stem.rpartition("-")[2]
    if not processes.isdecimal() or not 0 < int(processes) <= MOST_SHARDS:
        return STATE[:1]
    return [shard_name(k, int(processes)) for k in range(int(processes))]


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The selected weights of a checkpoint: the best weights if it has them, else the EMA, else the latest weights."""
    weights: dict[str, Tensor] = {}
    for part in ("model/", "ema/", "best/"):
        weights |= {name.removeprefix(part): state[name] for name in state if name.startswith(part)}
    return weights
