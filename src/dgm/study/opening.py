"""Opens a study: checks the runs and their data, opens the file of answers, and draws the examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dgm.errors import BadInput, DamagedRun
from dgm.inputs import place, random_seed, whole
from dgm.progress import Progress, silent
from dgm.runs import Run, load
from dgm.sampling import sample
from dgm.study import examples
from dgm.study.answers import FORMAT, REAL, AnswerFile, RunPart, StudyPart
from dgm.study.plan import Plan
from dgm.study.session import Session
from dgm.tensor_files import WEIGHTS, check_manifest

TIMED, UNTIMED, PAIRS = 150, 100, 40  # trials of a run, as in the paper, and pairs


def open_study(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    data: str | None = None,
    trials: int | None = None,
    pairs: int = PAIRS,
    timed: bool | None = None,
    split: str = "test",
    seed: int = 0,
    progress: Progress = silent,
) -> Session:
    """A study of trained models beside real examples, new or continued.

    Args:
        paths: Runs of one data set.
        out: The file of answers, which is continued if it is there and is of this study.
        data: The path of the runs' data, if it is your own: see `dgm.runs.Run.dataset`.
        trials: Real-or-fake trials of each run, half of them real examples; by default 150, or 100 without time limit,
            as in the paper; 0 for none.
        pairs: Trials in which a rater chooses the better of two examples, of two runs or of a run and real data.
        timed: Whether images are shown for a limited time, by HYPE's staircase; by default if the data are images.
        split: The split of the real examples.
        seed: The seed of the samples and of all orders.

    Raises:
        BadInput: For no trials, runs of different data, too few real examples or a file of another study.
        Unsupported: For data that cannot be shown, a model that draws no samples, or timed texts and sounds.
        DamagedRun: If a path is no run, or it has not been trained to its end.
    """
    runs = [Run(place("a run", path)) for path in paths]
    refuse_different_data(runs)
    dataset = runs[0].dataset(data)
    medium = examples.medium_of(dataset)
    if timed and medium != "image":
        raise BadInput(f"the staircase times images, got {medium}", "leave --timed out")
    timed = medium == "image" if timed is None else timed
    trials = whole("trials", (TIMED if timed else UNTIMED) if trials is None else trials, low=0)
    pairs = whole("pairs", pairs, low=0)
    refuse_no_trials(trials, pairs)
    study: StudyPart = {
        "format": FORMAT,
        "data": dataset.name,
        "split": split,
        "sha256": str(dataset.describe()["sha256"]),
        "runs": list(map(described, names(runs), runs)),
        "seed": random_seed(seed),
        "trials": trials,
        "pairs": pairs,
        "timed": timed,
    }
    plan = Plan.of(study)
    models = {name: examples.drawing(name, load(run.path)) for name, run in zip(plan.runs, runs, strict=True)}
    x = {REAL: examples.real(plan, dataset, split)}
    file = AnswerFile(out, study)
    try:
        for k, (name, model) in enumerate(models.items()):
            progress(k / len(runs), f"sampling {name}")
            x[name] = sample(model, plan.count(name), seed=plan.seed)
        return Session(file, medium, examples.files(x, dataset))
    except BaseException:
        file.close()
        raise


def refuse_no_trials(trials: int, pairs: int) -> None:
    if trials % 2:
        raise BadInput(f"half of the trials of a run are real examples, got {trials} trials", "give an even number")
    if not trials + pairs:
        raise BadInput("the study has no trial", "give --trials or --pairs")


def refuse_different_data(runs: Sequence[Run]) -> None:
    if not runs:
        raise BadInput("there is no run to study", "name one that `dgm train --out` wrote")
    for run in runs:
        if not run.finished:
            raise DamagedRun(f"{run.path} has not been trained to its end", f"run: dgm train --resume {run.path}")
        if of_data(run) != of_data(runs[0]):
            wrong = f"{run.path} and {runs[0].path} were trained on different data"
            raise BadInput(wrong, "study runs of one data set together")


def of_data(run: Run) -> tuple[str | None, str]:
    return run.config["data"].get("sha256"), json.dumps(run.config["model"]["space"], sort_keys=True)


def names(runs: Sequence[Run]) -> list[str]:
    """The names of the run directories, with their folders if two have one name."""
    short = [run.path.name for run in runs]
    found = short if len(set(short)) == len(runs) else [str(run.path) for run in runs]
    if len({*found, REAL}) <= len(runs):
        raise BadInput(f"each run needs a name of its own, got {', '.join(found)}", "name each run once")
    return found


def described(name: str, run: Run) -> RunPart:
    return {"name": name, "weights": check_manifest(run.path, WEIGHTS)[WEIGHTS[0]]}
