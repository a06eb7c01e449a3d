"""One model of each family on the same data within the same budget: trained, measured, one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm import evaluation, registry, training
from dgm.condition import encoded
from dgm.data import Dataset
from dgm.documents import Comparison, checked, read
from dgm.errors import BadInput, DgmError, Interrupted, Unsupported, one_line
from dgm.evaluation.columns import refuse_target
from dgm.files import write_json
from dgm.inputs import number, of_type, place, refuse_twice, tensor, whole
from dgm.progress import Progress, silent
from dgm.registry import ONE_OF_EACH_FAMILY
from dgm.report.collect import is_evaluated
from dgm.report.render import write_report
from dgm.report.table import Row
from dgm.runs import Run, load
from dgm.space import listed

CHECKPOINT_EVERY = 10.0  # seconds, the largest loss of training time when the process is killed
BUDGET = 25.0  # seconds
TRAINING = 0.8  # of the progress of one model


class Compared(NamedTuple):
    """The result of `compare`.

    Attributes:
        table: One row for each model and seed.
        report: The path of the report.
        left_out: The models that are not in the table: ``model``, ``why`` and ``reason``.
    """

    table: list[Row]
    report: Path
    left_out: list[dict[str, str]]

    @property
    def failed(self) -> bool:
        """Whether a model that supports this data failed."""
        return any(left["why"].startswith("failed") for left in self.left_out)


class Unfit(DgmError):
    """A model that does not take this data, by its nature."""

    def __init__(self, reason: DgmError) -> None:
        Exception.__init__(self, str(reason))


def compare(
    dataset: Dataset,
    out: str | Path,
    models: Sequence[str] = ONE_OF_EACH_FAMILY,
    *,
    conditional: bool = False,
    condition: Any | None = None,
    budget: float = BUDGET,
    seeds: int = 1,
    samples: int = 500,
    target: str | None = None,
    command: str = "dgm.compare",
    progress: Progress = silent,
) -> Compared:
    """Trains and evaluates each model with each seed, and writes the report. After an interruption, the same call
    resumes the comparison.

    Args:
        out: The folder to write: a run directory for each training, and report.html.
        models: Names of models, as for `dgm.create`.
        conditional: Whether conditional models are trained on the condition of the data.
        condition: One condition, (*shape) or in words, such as a label: the models are trained on the condition of the
            data, samples are drawn given this one, and compared with the real examples that have it.
        budget: Training time of each model in seconds.
        seeds: Number of seeds for each model.
        samples: Number of samples for the evaluation of each model.
        target: The column of a table that is predicted after training on samples; by default the last.
        command: The command for the report's description of itself.
        progress: Called with the completed fraction and a description.

    Raises:
        UnknownName: If a model does not exist. The message has the nearest name.
        BadInput: If the folder contains something else, the data has no condition for ``conditional``, or no model
            could be trained.
        Interrupted: If the comparison is stopped; finished trainings are kept.
    """
    of_type("the data", dataset, Dataset, "load it by dgm.data.load, which takes arrays and tables too")
    names, out, seeds = listed("models", models), place("out", out), whole("seeds", seeds, low=1)
    samples = whole("samples", samples, low=20)
    for name in names:
        registry.model_class(name)  # raises the error for a wrong name
    refuse_twice("model", names)
    if not number("the budget", budget) > 0:
        raise BadInput(f"the budget must be above 0 seconds, got {budget}", "give one such as 25")
    conditional = conditional or condition is not None
    if conditional and dataset.condition is None:
        raise BadInput("this data has no condition", "leave conditional out, or give one: see docs/conditions.md")
    y = given(condition, dataset)
    wanted = {"data": dataset.describe(), "budget": budget, "samples": samples}
    refuse_target(dataset, target)
    wanted |= {} if y is None else {"condition": y.tolist()}
    wanted |= {} if target is None else {"target": target}
    refuse_another_comparison(out, wanted | ({"conditional": True} if conditional else {}))
    done: list[Path] = []
    left_out: list[dict[str, str]] = []
    for k, name in enumerate(names):
        for seed in range(seeds):
            folder = out / name.replace(":", ".") / f"seed-{seed}"

            def tell(
                share: float, text: str, before: int = k * seeds + seed, name: str = name, seed: int = seed
            ) -> None:
                progress((before + share) / (len(names) * seeds), f"{name}, seed {seed}: {text}")

            try:
                how: dict[str, Any] = {"budget": budget, "seed": seed, "samples": samples, "progress": tell}
                how |= {"condition": y, "target": target}
                make(name, dataset, folder, conditional=conditional, **how)
                done.append(folder)
            except Interrupted as stop:
                kept = "stopped; finished trainings are kept"
                raise Interrupted(kept, "run the same command to continue", stop.number) from None
            except Unfit as reason:
                left_out.append({"model": name, "why": "is skipped", "reason": str(reason)})
                break
            except OSError:
                raise  # a full disk or a missing permission is not an error of the model
            except Exception as error:  # one model's failure, whatever it is, must not cost the others' work
                left_out.append({"model": name, "why": f"failed under seed {seed}", "reason": one_line(error)})
    if not done:
        raise nothing_trained(out, left_out)
    report = out / "report.html"
    return Compared(write_report(done, report, dataset=dataset, command=command, left_out=left_out), report, left_out)


def given(condition: Any | None, dataset: Dataset) -> Tensor | None:
    """One condition in the space of the data's conditions, (*shape)."""
    if condition is None or dataset.condition is None:
        return None
    y = tensor("the condition", encoded(condition, dataset.condition, dataset.names))
    return dataset.condition.check(y[None].to(dataset.condition.dtype))[0]


def nothing_trained(out: Path, left_out: list[dict[str, str]]) -> BadInput:
    if {path.name for path in out.iterdir()} == {"comparison.json"}:  # there is no training to resume
        (out / "comparison.json").unlink()
        out.rmdir()
    reasons = ". ".join(f"{left['model']} {left['why']}: {left['reason']}" for left in left_out)
    return BadInput(f"no model could be trained on this data: {reasons}", "choose other models or other data")


def refuse_another_comparison(out: Path, wanted: dict[str, Any]) -> None:
    """Checks that the trainings in the folder belong to the same comparison."""
    path = out / "comparison.json"
    if not path.is_file():
        if out.exists() and any(out.iterdir()):
            raise BadInput(f"{out} holds something else", "choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json(wanted, path)
        return
    held = checked(read(path), Comparison, path)
    different = [name for name in held | wanted if held.get(name) != wanted.get(name)]
    if different:
        wrong = f"{out} holds a comparison with other {' and '.join(different)}"
        raise BadInput(wrong, "choose another folder, or repeat its command")


def make(
    name: str,
    dataset: Dataset,
    folder: Path,
    *,
    conditional: bool,
    condition: Tensor | None,
    budget: float,
    seed: int,
    samples: int,
    target: str | None,
    progress: Progress,
) -> None:
    """Trains and evaluates one model, unless this has been done already."""
    if not (folder / "manifest.json").is_file():
        train(name, dataset, folder, conditional=conditional, budget=budget, seed=seed, progress=progress)
    trained = Run(folder)
    if is_evaluated(trained):
        return progress(1.0, "done before")
    metrics = trained.metrics()  # empty if the time was over before the first step
    steps = f"{metrics[-1]['step'] if metrics else 0} steps"

    def tell(share: float, text: str) -> None:
        progress(TRAINING + (1 - TRAINING) * share, f"{steps}, measuring: {text}")

    how: dict[str, Any] = {"samples": samples, "condition": condition, "target": target, "seed": seed}
    document = evaluation.evaluate(load(folder), dataset, **how, progress=tell)
    write_json(document, folder / "evaluation.json")
    return progress(1.0, f"{steps}, measured")


def train(
    name: str, dataset: Dataset, folder: Path, *, conditional: bool, budget: float, seed: int, progress: Progress
) -> None:
    torch.manual_seed(seed)
    try:
        model = registry.create(name, dataset.space, dataset.condition if conditional else None)
    except (BadInput, Unsupported) as reason:
        raise Unfit(reason) from reason
    begun = (folder / "config.json").is_file()
    if folder.exists() and not begun:  # killed before its first file: only the lock is there
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()
    chosen: dict[str, Any] = {"budget": budget, "seed": seed, "checkpoint_every": CHECKPOINT_EVERY}
    for step in training.fit(model, dataset, out=folder, resume=begun, **chosen):
        progress(TRAINING * step.progress, f"step {step.step}")
