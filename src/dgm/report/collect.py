"""Collects the data of a report from run directories: their documents, and samples with equal seeds."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import registry
from dgm.data import Dataset
from dgm.documents import read_object
from dgm.errors import BadInput, DamagedRun
from dgm.evaluation.evaluate import FORMAT
from dgm.inputs import tensor
from dgm.networks.conditions import conditions_to_draw
from dgm.protocols import Model, Samplable, condition_of, has
from dgm.report import conditions
from dgm.report.table import Trained
from dgm.runs import Run, load
from dgm.sampling import sample
from dgm.tensor_files import WEIGHTS, check_manifest, read_weights, write_weights

log = logging.getLogger(__name__)

SHOWN = 36  # images in a grid
POINTS = 500  # points, or rows of a table, in a plot


def trained(path: Path) -> Trained:
    """One evaluated run; of an interrupted evaluation, the measures that were finished.

    Raises:
        DamagedRun: If it has not been trained to its end, or has not been evaluated.
    """
    run = Run(path)
    if not run.finished:
        raise DamagedRun(f"{path} has not been trained to its end", f"run: dgm train --resume {path}")
    found = measured(run)
    if found is None:
        raise DamagedRun(f"{path} has not been evaluated since it was trained", f"run: dgm evaluate {path}")
    if found.get("interrupted"):
        log.warning("the evaluation of %s was interrupted; for the other measures run: dgm evaluate %s", path, path)
    metrics = run.metrics()
    model = run.untrained()
    parameters = sum(p.numel() for p in model.parameters()) or sum(b.numel() for b in model.buffers())
    return Trained(
        model=registry.title(run.config["model"]),
        seed=run.config["training"]["seed"],
        path=str(path),
        evaluation=run.evaluation(),
        steps=metrics[-1]["step"] if metrics else 0,
        seconds=metrics[-1].get("seconds", 0.0) if metrics else 0.0,
        parameters=parameters,
        config=run.config,
        weights=check_manifest(path, WEIGHTS)[WEIGHTS[0]],
        metrics=[line for line in metrics if "seconds" in line and line.get("losses")],
    )


def is_evaluated(run: Run) -> bool:
    """Whether the weights that are there now have been measured to the end, in the way that they are measured now."""
    found = measured(run)
    return found is not None and not found.get("interrupted")


def measured(run: Run) -> dict[str, Any] | None:
    """The evaluation of the weights that are there now, also if it was interrupted; None if there is none."""
    path = run.path / "evaluation.json"
    found = read_object(path) if is_newer(path, run) else {}
    return found if found.get("format") == FORMAT else None


def is_newer(path: Path, run: Run) -> bool:
    """Whether a file is there and was made from the weights that are there now."""
    return path.is_file() and path.stat().st_mtime_ns >= (run.path / "weights.safetensors").stat().st_mtime_ns


def one_dataset(runs: Sequence[Trained], named: str | None = None) -> Dataset:
    """The data that all runs were trained on.

    Raises:
        BadInput: If the runs have different data.
    """
    refuse_different_data(runs)
    return Run(runs[0].path).dataset(named)


def refuse_different_data(runs: Sequence[Trained]) -> None:
    # dynamically binarised images are stored as the grey levels that they are drawn from, and have another space
    named = {of_data(run): f"{run.path} ({run.config['data']['name']})" for run in runs}
    if len(named) > 1:
        wrong = f"the runs were trained on different data: {', '.join(named.values())}"
        raise BadInput(wrong, "report runs of one data set together")


def of_data(run: Trained) -> tuple[str | None, str]:
    return run.config["data"].get("sha256"), json.dumps(run.config["model"].get("space"), sort_keys=True)


def samples(run: Trained, dataset: Dataset) -> Tensor | None:
    """The first of the evaluated samples, drawn once and cached in the run. None if there are no samples."""
    n = SHOWN if len(dataset.space.shape) == 3 else POINTS
    directory = Run(run.path)
    model = directory.untrained()
    if not has(model, Samplable) or "samples" not in run.evaluation:
        return None
    seed = run.evaluation["samples"]["seed"]
    kept = directory.path / "samples" / f"report-seed-{seed}-{n}.safetensors"
    if not is_newer(kept, directory):
        kept.parent.mkdir(exist_ok=True)
        model = load(run.path)
        y = conditions_to_draw(model, n, seed, evaluated_condition(run, model))
        x = sample(model, n, y, seed=seed)
        write_weights({"x": x}, kept)
    return dataset.space.check(read_weights(kept).get("x", torch.empty(0)))


def evaluated_condition(run: Trained, model: Model) -> Tensor | None:
    """The condition of all evaluated samples, (*shape); None if they have that of the training data."""
    space = condition_of(model)
    if "condition" not in run.evaluation["samples"] or space is None:
        return None
    y = tensor("the condition of an evaluation", run.evaluation["samples"]["condition"])
    return space.check(y[None].to(space.dtype))[0]


def of_conditions(run: Trained, y: Tensor) -> Tensor | None:
    """(rows, columns, *shape) samples of each of these conditions, drawn once and kept in the run.

    None for a model that is not conditional, or draws no samples.
    """
    directory = Run(run.path)
    if directory.condition is None or "samples" not in run.evaluation:
        return None
    seed, columns = run.evaluation["samples"]["seed"], conditions.COLUMNS
    kept = directory.path / "samples" / f"report-conditions-seed-{seed}-{len(y)}.safetensors"
    if not is_newer(kept, directory):
        kept.parent.mkdir(exist_ok=True)
        x = sample(load(run.path), len(y) * columns, y.repeat_interleave(columns, 0), seed=seed)
        write_weights({"x": x, "y": y}, kept)
    held = read_weights(kept)
    if (
        not torch.equal(held.get("y", torch.empty(0)).nan_to_num(), y.nan_to_num())
        or len(held["x"]) != len(y) * columns
    ):
        raise DamagedRun(f"{kept} holds samples of other conditions", "remove it, and they are drawn again")
    return directory.space.check(held["x"]).unflatten(0, (len(y), columns))


def nearest(run: Trained, dataset: Dataset) -> Tensor:
    """The nearest training examples of the first samples."""
    rows = torch.tensor((run.evaluation.get("memorisation") or {}).get("nearest", []), dtype=torch.int64)
    x, _ = dataset.train.batch(rows[(rows >= 0) & (rows < len(dataset.train))], torch.Generator().manual_seed(0))
    return x


def real(dataset: Dataset, split: str) -> Tensor:
    """As many real examples as samples."""
    part = dataset.splits[split]
    n = min(len(part), SHOWN if len(dataset.space.shape) == 3 else POINTS)
    x, _ = part.batch(torch.arange(n), torch.Generator().manual_seed(0))
    return x
