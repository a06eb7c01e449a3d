"""Studies without models: their examples are short texts that name their source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from dgm.study.answers import REAL, Answer, AnswerFile, StudyPart
from dgm.study.examples import Medium
from dgm.study.plan import Plan
from dgm.study.session import Session


def study_of(runs: tuple[str, ...] = ("vae", "gmm"), **numbers: Any) -> StudyPart:
    return {
        "format": 1,
        "seed": 0,
        "data": "digits",
        "split": "test",
        "sha256": "0" * 64,
        "runs": [{"name": name, "weights": "0" * 64} for name in runs],
        "trials": 10,
        "pairs": 6,
        "timed": True,
        **numbers,  # type: ignore[typeddict-item]
    }


def session_of(
    out: Path,
    study: StudyPart,
    medium: Medium = "text",
    encode: Callable[[str, int], bytes] = lambda name, k: f"{name} {k}".encode(),
) -> Session:
    plan = Plan.of(study)
    examples = {name: [encode(name, k) for k in range(plan.count(name))] for name in (*plan.runs, REAL)}
    return Session(AnswerFile(out, study), medium, examples)


def answer_of(trial: int, **changed: Any) -> Answer:
    """An answer of rater 1 to a real-or-fake trial."""
    answer = {"rater": 1, "trial": trial, "task": "real or fake", "run": "vae", "source": "vae", "stimulus": 0}
    answer |= {"exposure": 500, "shown": 500.0, "choice": "fake", "seconds": 1.0, "time": ""}
    return cast(Answer, answer | changed)
