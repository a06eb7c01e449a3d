"""The run directory: the files that training writes and that all other commands read.

``config.json``
    The description of the model, the data and the training settings, from which they can be created again.
``metrics.jsonl``
    One JSON object for each logged step: step, progress, seconds, examples, losses by player, learning rate, the
    validation loss if it was measured, the unit of the losses if the model states it, and a note on a decision of the
    training, such as an early stop.
``weights.safetensors``, ``manifest.json``
    The selected weights and their sha256, written when training has ended.
``checkpoints/step-00000100/``
    ``state.safetensors`` and ``state.json`` with the whole state of the training, and a manifest of their sha256. A
    sharded training has files ``state-00000-of-00004.safetensors`` and so on, with the rows of each process.
``frozen.safetensors``
    The frozen parts of the model, such as a first stage; state.json has its sha256.
``evaluation.json``, ``samples/``
    The results of the evaluation, and the samples.

Every file is written atomically: under a temporary name, flushed to the disk and then renamed.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm import data, documents, memory, registry
from dgm.condition import Names
from dgm.data import Dataset
from dgm.data.columns import Column
from dgm.data.dataset import fingerprint
from dgm.data.memory import ARRAY, TABLE
from dgm.documents import read as read_json
from dgm.documents import read_object
from dgm.errors import BadInput, DamagedRun, DgmError, in_one_line
from dgm.inputs import brief, place
from dgm.protocols import Model
from dgm.space import Space
from dgm.tensor_files import WEIGHTS, check_manifest, checkpoint_state, frozen_weights, read_weights, weights_of

FORMAT = 2
UNSTATED = "unstated data"  # the name of the data in a run that does not state its data
SPARE = 1 << 28  # bytes that the creation of a model may take besides its weights
log = logging.getLogger("dgm")


class Selection(NamedTuple):
    """The selected weights of a training.

    Attributes:
        step: The step after which the weights are taken.
        steps: The number of trained steps.
        validation: The mean loss of the weights on the validation split; None if the last weights are always selected.
        stopped: The reason why the training ended early; empty if it did not.
    """

    step: int
    steps: int
    validation: float | None
    stopped: str


class Run:
    """One run directory.

    Raises:
        DamagedRun: If ``path`` is not a run directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = place("a run", path)
        if not (self.path / "config.json").is_file():
            wrong = f"{path} is not a run directory: it has no config.json"
            raise DamagedRun(wrong, "name a directory that `dgm train --out` wrote")
        refuse_links(self.path)
        where = self.path / "config.json"
        document = read_object(where)
        if document.get("format") != FORMAT:
            wrong = f"{path} has the run format {document.get('format')!r:.60}, this dgm reads {FORMAT}"
            raise DamagedRun(wrong, "use the dgm that wrote it, or train again")
        for part in ("model", "data", "training"):
            if not isinstance(document.get(part), dict):
                raise DamagedRun(f"{where} says nothing of the {part}", "take the file from a copy")
        self.config: Any = documents.checked(document, documents.Config, where)
        self.space = Space.from_json(self.config["model"]["space"])
        described = self.config["model"].get("condition")
        self.condition = None if described is None else Space.from_json(described)
        self.names = fitting(self.config["data"], self.space, self.condition, where)

    @property
    def finished(self) -> bool:
        return (self.path / "manifest.json").is_file()

    def dataset(self, named: str | None = None, *, root: str | Path | None = None) -> Dataset:
        """The training data of the run, after a check of its sha256.

        Args:
            named: The data set or the path that the user names. It is required for a path, since config.json must not
                choose the files that are read.

        Raises:
            BadInput: If the user has not named a path, or the data is not that of the run.
        """
        about = self.config["data"]
        if about["name"] == UNSTATED:
            return self.unstated(named, root)
        if named is None and about["name"] not in (*data.SETS, ARRAY, TABLE):  # data from memory is not stored
            wrong = f"{self.path} was trained on '{about['name']}', and no path in a run is used"
            raise BadInput(wrong, f"if it may be read, add: --data {shlex.quote(about['name'])}")
        dataset = data.load(about["name"] if named is None else named, root=root, **about["options"])
        expected, got = about.get("sha256"), fingerprint(dataset.train.x)
        if got != expected and (expected is not None or named is not None):
            wrong = f"{dataset.name} is not the data of {self.path}: its sha256 is {got}, expected {expected}"
            raise BadInput(wrong, "name the data that it was trained on")
        return dataset

    def unstated(self, named: str | None, root: str | Path | None) -> Dataset:
        """The data that the user names, for a run that does not state its data."""
        if named is None:
            raise BadInput(f"{self.path} does not name its training data", "name it: --data NAME_OR_PATH")
        dataset = data.load(named, root=root)
        if dataset.space != self.space:
            raise BadInput(
                f"{self.path} is of {self.space}, {dataset.name} of {dataset.space}", "name the model's data"
            )
        return dataset

    def untrained(self, *own: type[Model]) -> Model:
        """The model with its initial weights.

        Args:
            own: Classes that config.json may name besides those of `dgm models`; see `registry.class_in_file`.

        Raises:
            BadInput: If config.json names a class that a file may not name.
            DamagedRun: If no model can be created from the description, or the model is far larger than the run's
                weights.
        """
        for name in registry.names_in(self.config["model"]):
            registry.class_in_file(name, own)  # raises BadInput for a name that a file may not have
        largest = max((path.stat().st_size for path in self.path.rglob("*.safetensors")), default=0)
        most = SPARE + 4 * largest
        with (
            refusing(f"{self.path / 'config.json'} describes a model that cannot be made"),
            memory.Bounded("it", most=most),
        ):
            return registry.from_description(self.config["model"], *own)

    def weights(self) -> dict[str, Tensor]:
        """The selected weights, or those of the newest undamaged checkpoint if training has not ended."""
        if self.finished:
            check_manifest(self.path, WEIGHTS)
            return read_weights(self.path / "weights.safetensors")
        state, values = self.newest_checkpoint()
        log.warning("the training in %s has not ended; these are its weights after step %s", self.path, values["step"])
        return weights_of(state) | frozen_weights(self.path, values.get("frozen", ""))

    def evaluation(self) -> Any:
        """The content of evaluation.json."""
        path = self.path / "evaluation.json"
        return documents.checked(read_json(path), documents.Evaluation, path)

    def checkpoints(self) -> list[Path]:
        """The folders of the checkpoints, the newest first."""
        folders = (folder for folder in self.path.glob("checkpoints/step-*") if folder.name[5:].isdecimal())
        return sorted(folders, reverse=True)

    def newest_checkpoint(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """The tensors and plain values of the newest undamaged checkpoint; damaged checkpoints are logged as warnings.

        Raises:
            DamagedRun: If there is no undamaged checkpoint.
        """
        damages: list[DgmError] = []
        for folder in self.checkpoints():
            try:
                state = checkpoint_state(folder)
            except DamagedRun as damage:
                damages.append(damage)
                continue
            for past in damages:
                log.warning("%s; using %s instead", past, folder)
            return state
        wrong = "; ".join(map(str, damages)) or f"{self.path} has no checkpoint yet"
        raise DamagedRun(wrong, "train again from the start")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl. An incomplete last line, which a killed training leaves, is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
        except (ValueError, RecursionError) as error:
            raise DamagedRun(
                f"{path} has a line that is not valid JSON: {error}", "take the file from a copy"
            ) from error
        return [documents.checked(row, documents.Line, f"{path}, line {k + 1}") for k, row in enumerate(rows)]

    def selection(self) -> Selection | None:
        """The selection of the weights so far; None before the first line of metrics.jsonl."""
        lines = self.metrics()
        if not lines:
            return None
        note = lines[-1].get("note", "")
        validated = [(line["validation"], line["step"]) for line in lines if "validation" in line]
        last, stopped = lines[-1]["step"], note if note.startswith("stopped") else ""
        if not validated or self.config["training"].get("select") == "last":
            return Selection(last, last, None, stopped)
        loss, step = min(validated)
        return Selection(step, last, loss, stopped)


def refuse_links(folder: Path) -> None:
    """Rejects a run with a link that points outside its directory."""
    for file in chain.from_iterable(folder.glob(part) for part in ("*", "*/*", "*/*/*")):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise DamagedRun(f"{file} is a link that leads out of the run directory", "put the file itself there")


def fitting(about: Mapping[str, Any], space: Space, condition: Space | None, where: Path) -> Names:
    """Checks the description of the data in config.json: alphabet, palette, columns, rate and condition.

    Returns:
        The names of the condition's values.

    Raises:
        DamagedRun: For the first entry that does not fit the space or the condition.
    """
    letters, colours = about.get("alphabet", ""), about.get("palette", "")
    wrong = {
        "alphabet has fewer characters than the space has values": letters and len(letters) < (space.values or 0),
        "palette has fewer colours than the space has values": colours and len(colours) < 6 * (space.values or 0),
        "palette is not in hexadecimal digits": colours.strip("0123456789abcdef") or len(colours) % 6,
        "columns are not those of the space": not fits_columns(about.get("columns", []), space),
        "rate is not from 0 to 1,000,000": not 0 <= about.get("rate", 0) <= 1_000_000,
        "options say what is read": about["options"].keys() & {"name", "root"},
        "options say bytes, and the space has not 256 values": about["options"].get("bytes") and space.values != 256,
    }
    for words, holds in wrong.items():
        if holds:
            raise DamagedRun(f"{where}: the data's {words}", documents.REMEDY)
    if "condition" not in about:
        return Names()
    with refusing(f"{where}: the data's condition"):
        of_y, names = Space.from_json(about["condition"]["space"]), Names.from_json(about["condition"]["names"])
        if condition not in (None, of_y):
            raise BadInput("it differs from the model's", "correct one of the two")
        if not names.fit(of_y):
            raise BadInput("its names are not as many as its values or dimensions", "correct them")
    return names


def fits_columns(described: list[dict[str, Any]], space: Space) -> bool:
    """Whether there are no columns, or a column of the right type for each dimension of the space."""
    columns = [Column.from_json(document) for document in described]
    if space.kind != "record" or not columns:
        return len(columns) in (0, space.dim) and all(column.type == "real" for column in columns)
    return len(columns) == len(space.parts) and all(
        column.name == name and column.fits(part) for column, (name, part) in zip(columns, space.parts, strict=True)
    )


@contextmanager
def refusing(wrong: str) -> Iterator[None]:
    """A context that turns any error into a `DamagedRun`, since the content of a damaged file can cause any error."""
    try:
        yield
    except Exception as error:
        reason = error.wrong if isinstance(error, DgmError) else f"{type(error).__name__}: {error}"
        raise DamagedRun(f"{wrong}: {' '.join(reason.split())}", documents.REMEDY) from error


def put(weights: Mapping[str, Tensor], model: Model, source: Path) -> None:
    """Puts weights into a model.

    Raises:
        DamagedRun: If the names, shapes or dtypes differ from the model's, or a weight is not finite.
    """
    own = model.state_dict()
    wrong = next((name for name, kept in weights.items() if name in own and kept.dtype != own[name].dtype), None)
    try:
        if wrong is not None:
            raise RuntimeError(f"{wrong} is of {weights[wrong].dtype}, expected {own[wrong].dtype}")
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        wrong = f"the weights in {source} do not fit its config.json: {in_one_line(error)}"
        raise DamagedRun(wrong, "take both files from one run") from error
    learnt = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in model.state_dict().items():
        # a buffer, such as a mask, may have an infinity
        if tensor.is_floating_point() and not (tensor.isfinite() if name in learnt else ~tensor.isnan()).all():
            raise DamagedRun(
                f"the weights '{name}' in {source} are not finite", "take them from a copy, or train again"
            )


def load(
    path: str | Path, model: type[Model] | Sequence[type[Model]] = (), *, device: str | torch.device = "cpu"
) -> Model:
    """Loads a trained model from its run directory, ready to sample.

    Args:
        path: The directory, or ``hf://user/name`` for a run on the Hugging Face hub, which is stored in the user's
            cache.
        model: The class of a model that is not part of dgm, since a file must not choose code; several classes if the
            model is composed of several such models.
        device: The device of the model, such as "cuda".

    Raises:
        DamagedRun: If the directory is no run, or a file differs from its checksum.
        BadInput: If the run names a class outside `dgm models` and ``model`` is missing, or the device is not
            available.
    """
    if isinstance(path, str) and path.startswith("hf://"):
        from dgm.hub import cached  # dgm.hub imports this module

        path = cached(path)
    run, where = Run(path), usable(device)
    trained = run.untrained(*([model] if isinstance(model, type) else model))
    put(run.weights(), trained, run.path)
    trained.names = run.names
    return trained.to(where).eval()


def usable(device: str | torch.device) -> torch.device:
    """The device, after a check that tensors can be created on it."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = in_one_line(error).partition(". ")[0]
        raise BadInput(f"the device {brief(device)} cannot be used: {reason}", "take cpu, or another one") from error


def runs_in(folder: Path) -> list[Path]:
    """``folder`` itself if it is a run; otherwise all runs below it."""
    if (folder / "config.json").is_file():
        return [folder]
    folders = sorted(path.parent for path in folder.rglob("config.json"))
    if not folders:
        raise DamagedRun(f"{folder} is not a run directory and contains none", "name one that `dgm train --out` wrote")
    return folders
