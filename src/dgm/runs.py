"""The run directory: what training leaves behind and everything after it reads.

``config.json``
    The model, the data and the training settings, all that is needed to make them again.
``metrics.jsonl``
    One JSON object a line: step, progress, seconds, examples, losses by player, learning rate, validation where it was
    measured, and a note where training decided something by itself.
``weights.safetensors``, ``manifest.json``
    The weights to use, and their sha256. They are there once training has ended.
``checkpoints/step-00000100/``
    ``state.safetensors`` and ``state.json`` with all that training needs to go on, and a manifest of their sha256.
``evaluation.json``, ``samples/``
    What was measured, and what was drawn.

Every file is written under a temporary name, flushed to the disk and renamed: it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from dgm import data, registry
from dgm.data import Dataset
from dgm.errors import BadInput, DamagedRun, DgmError
from dgm.inputs import place
from dgm.networks.embeddings import set_label_shares
from dgm.protocols import Model

FORMAT = 1
log = logging.getLogger("dgm")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A temporary path beside ``out`` to write a file or a folder to; it becomes ``out`` once it is whole."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with writable(out):
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary] if temporary.is_dir() else [temporary]:
                flush(path)
            temporary.replace(out)
            flush(out.parent)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """A full disk or a missing permission, met inside, is said in one line."""
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BadInput(f"{path} cannot be written: {reason}", "make room there or get permission") from error


def flush(path: Path) -> None:
    """Waits until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(document: Any, out: Path) -> None:
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DamagedRun(f"{path} is missing", "name a run directory as `dgm train` writes it") from error
    except OSError as error:
        raise DamagedRun(f"{path} cannot be read: {error.strerror}", "mend its permissions") from error
    except ValueError as error:
        raise DamagedRun(f"{path} is no JSON: {error}", "take the file from a copy, or train again") from error


def read_object(path: Path) -> dict[str, Any]:
    document = read_json(path)
    if not isinstance(document, dict):
        raise DamagedRun(f"{path} holds no JSON object", "take the file from a copy, or train again")
    return document


def write_weights(weights: Mapping[str, Tensor], out: Path) -> None:
    """Writes tensors as safetensors. Each is copied, since the format refuses tensors that share memory."""
    with replacing(out) as temporary:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, temporary)


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedRun(f"{path} cannot be read: {error}", "take the file from a copy, or train again") from error


def write_manifest(folder: Path, names: list[str]) -> None:
    write_json({name: sha256(folder / name) for name in names}, folder / "manifest.json")


def check_manifest(folder: Path) -> None:
    """Compares the files of a folder with its manifest.

    Raises:
        DamagedRun: Naming the first file that is missing or differs.
    """
    for name, expected in read_object(folder / "manifest.json").items():
        if not (folder / name).is_file():
            raise DamagedRun(f"{folder / name} is missing", "take the file from a copy, or train again")
        if sha256(folder / name) != expected:
            raise DamagedRun(f"{folder / name} is damaged: its sha256 is not the manifest's", "take it from a copy")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Selection(NamedTuple):
    """Which of a training's weights are the ones to use.

    Attributes:
        step: The step that they are taken after.
        steps: How many steps were trained.
        validation: Their mean loss on the validation split; None where the last weights are kept whatever it is.
        stopped: Why the training ended early; empty where it did not.
    """

    step: int
    steps: int
    validation: float | None
    stopped: str


class Run:
    """One run directory.

    Raises:
        DamagedRun: Where ``path`` is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = place("a run", path)
        if not (self.path / "config.json").is_file():
            wrong = f"{path} is no run directory: it has no config.json"
            raise DamagedRun(wrong, "name a directory that `dgm train --out` wrote")
        self.config = read_object(self.path / "config.json")
        if self.config.get("format") != FORMAT:
            wrong = f"{path} has the run format {self.config.get('format')}, this dgm reads {FORMAT}"
            raise DamagedRun(wrong, "use the dgm that wrote it, or train again")
        for part in ("model", "data", "training"):
            if not isinstance(self.config.get(part), dict):
                raise DamagedRun(f"{path}/config.json says nothing of the {part}", "take the file from a copy")

    @property
    def finished(self) -> bool:
        return (self.path / "manifest.json").is_file()

    def dataset(self, *, root: str | Path | None = None) -> Dataset:
        """The data that the model was trained on."""
        return data.load(self.config["data"]["name"], root=root, **self.config["data"]["options"])

    def untrained(self, model: type[Model] | None = None) -> Model:
        """The model with its first weights, of the class that config.json names, as far as it may, or of ``model``."""
        return registry.from_description(self.config["model"], model)

    def weights(self) -> dict[str, Tensor]:
        """The weights to use: the final ones, or those of the newest good checkpoint while training has not ended."""
        if self.finished:
            check_manifest(self.path)
            return read_weights(self.path / "weights.safetensors")
        state, values = self.newest_checkpoint()
        log.warning("the training in %s has not ended; these are its weights after step %s", self.path, values["step"])
        return weights_of(state)

    def checkpoints(self) -> list[Path]:
        """The newest first."""
        return sorted(self.path.glob("checkpoints/step-*"), reverse=True)

    def newest_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values of the newest checkpoint that is not damaged; those that are get a warning.

        Raises:
            DamagedRun: Where there is none.
        """
        damages: list[DgmError] = []
        for folder in self.checkpoints():
            try:
                check_manifest(folder)
                state = read_weights(folder / "state.safetensors"), read_object(folder / "state.json")
            except DamagedRun as damage:
                damages.append(damage)
                continue
            for past in damages:
                log.warning("%s; using %s instead", past, folder)
            return state
        wrong = "; ".join(map(str, damages)) or f"{self.path} has no checkpoint yet"
        raise DamagedRun(wrong, "train again from the start")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl. A last one without its end is of a training that was killed, and left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise DamagedRun(f"{path} has a line that is no JSON: {error}", "take the file from a copy") from error

    def selection(self) -> Selection | None:
        """Where the weights to use come from, as far as it has trained; None before the first line of metrics.jsonl."""
        lines = self.metrics()
        if not lines:
            return None
        note = lines[-1].get("note", "")
        validated = [(line["validation"], line["step"]) for line in lines if "validation" in line]
        last, stopped = lines[-1]["step"], note if lines[-1]["progress"] < 1 else ""
        if not validated or self.config["training"].get("select") == "last":
            return Selection(last, last, None, stopped)
        loss, step = min(validated)
        return Selection(step, last, loss, stopped)


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint's tensors say the weights to use are: the best if kept, else the average, else the latest."""
    weights: dict[str, Tensor] = {}
    for part in ("model/", "ema/", "best/"):
        weights |= {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
    return weights


def load(path: str | Path, model: type[Model] | None = None) -> Model:
    """A trained model from its run directory, on the CPU, ready to sample.

    Args:
        model: The class, for a run whose model is no part of dgm: a file chooses no code.

    Raises:
        DamagedRun: For a directory that is no run, or files that differ from their checksums.
        BadInput: For a run that names a class outside `dgm models`, where no ``model`` is given.
    """
    run = Run(path)
    trained = run.untrained(model)
    try:
        trained.load_state_dict(run.weights(), strict=True)
    except RuntimeError as error:
        wrong = f"the weights in {path} do not fit its config.json: {' '.join(str(error).split())}"
        raise DamagedRun(wrong, "take both files from one run") from error
    set_label_shares(trained, run.config["data"].get("label_shares", []))
    return trained.eval()
