"""The arguments of `dgm.fit`: data in memory, the settings of a resumed run, and checks that they fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgm import registry, runs
from dgm.data import Dataset, Split
from dgm.data.memory import ARRAY
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.inputs import pairs
from dgm.models.two_stage import TwoStage
from dgm.networks.conditions import check_condition
from dgm.protocols import Fittable, Model, MultiPlayer, Trainable, condition_of, has
from dgm.training.devices import refuse_missing_devices
from dgm.training.metrics import board_class
from dgm.training.settings import Settings
from dgm.training.sharding import refuse_unshardable
from dgm.training.validation import descends_one_loss


def of_examples(model: Model, data: Any) -> Dataset:
    """Examples in memory, or of a DataLoader, as a data set with empty validation and test splits."""
    condition = condition_of(model)
    x, y = pairs(data, conditional=condition is not None)
    x = model.space.check(x)
    if len(x) == 0:
        raise BadInput("there is no example to train on", "give some")
    if (y := check_condition(y, condition)) is not None and len(y) != len(x):
        raise BadInput(f"there are {len(x)} examples and {len(y)} conditions", "give one an example")
    train, none = Split(x, y), Split(x[:0], None if y is None else y[:0])
    return Dataset(
        name=ARRAY,
        space=model.space,
        train=train,
        validation=none,
        test=none,
        split="all to train",
        condition=condition,
    )


def settings_of_run(out: Path | None, model: Model, dataset: Dataset) -> Mapping[str, Any]:
    """The settings of the run in ``out``, after a check that the run has this model and this data."""
    if out is None:
        raise BadInput("there is no run to resume", "give out, the run directory")
    config = runs.Run(out).config
    if config["model"] != as_json(registry.describe(model)):
        raise BadInput(f"the model is not that of {out}", "make it with dgm.registry.from_description of its config")
    if config["data"].get("sha256") != dataset.describe()["sha256"]:
        raise BadInput(
            f"the data is not that of {out}: its sha256 differs", "give the same data, or start a new training"
        )
    return config["training"]


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


def check(model: Model, dataset: Dataset, settings: Settings) -> None:
    if model.space != dataset.space:
        raise BadInput(f"the model is of {model.space}, the data of {dataset.space}", "create it with the data's space")
    if not any(has(model, way) for way in (Trainable, MultiPlayer, Fittable)):
        raise Unsupported(f"{type(model).__name__} has no loss, losses or fit", "see docs/own-model.md")
    if settings.compile and settings.strategy == "fsdp":
        raise Unsupported("a sharded model is not compiled", "leave --compile out")
    if settings.strategy == "fsdp" and has(model, Fittable):
        wrong = f"{type(model).__name__} is fitted by passes and has nothing to shard"
        raise Unsupported(wrong, "leave --strategy out")
    if settings.strategy == "fsdp":
        refuse_unshardable(model.on_codes() if isinstance(model, TwoStage) else model)
    if settings.compile and (has(model, MultiPlayer) or has(model, Fittable)):
        raise Unsupported(f"{type(model).__name__} has not one loss to compile", "leave --compile out")
    refuse_unknown_players(model, settings)
    refuse_missing_devices(settings)
    condition = condition_of(model)
    if condition is not None and dataset.train.y is not None:
        check_condition(dataset.train.y, condition)  # here, since a check on a GPU would block each step
    selects = descends_one_loss(model) and settings.select == "best" and len(dataset.validation) > 0
    if settings.patience not in ("auto", 0) and not selects:
        wrong = (
            f"patience counts epochs without a better validation, and no weights of {type(model).__name__} are selected"
        )
        raise Unsupported(wrong, "leave --patience out")
    if settings.tensorboard:
        board_class()  # raises MissingExtra before training if it is not installed


def refuse_unknown_players(model: Model, settings: Settings) -> None:
    known = getattr(model, "players", None)
    for name in settings.players or {}:
        if not has(model, MultiPlayer):
            raise BadInput(f"{type(model).__name__} is not a game and has no player '{name}'", "leave its settings out")
        if known is not None and name not in known:
            raise UnknownName.of(f"player of {type(model).__name__}", name, known)
