"""Numbers of models and of what is done with them, and the file of them: ``python tests/recorded.py`` writes it anew.

No paper says that they are right; the other tests do. They are what users publish and compare, and change by no
accident: where a change is meant, the file is written anew, and the figures in `results/` that it touches are measured
again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import recorded_models
import recorded_uses
import torch
from torch import Tensor

from dgm.models.table import MODELS

FILE = Path(__file__).parent / "recorded.json"
# of each subject the cases, and of each case the numbers by name
SUBJECTS: Mapping[str, Callable[[], Iterator[tuple[str, Iterator[tuple[str, Tensor]]]]]] = {
    **{name: partial(recorded_models.cases, name) for name in MODELS},
    "defaults": recorded_models.defaults,
    **recorded_uses.SUBJECTS,
}


def summary(values: Tensor) -> tuple[float, float]:
    """A sum in which each value has a weight of its own, and its size if the values were independent."""
    flat = values.detach().double().flatten().nan_to_num(nan=7.0, posinf=8.0, neginf=9.0)
    weights = torch.cos(1.7 * torch.arange(len(flat)).double() + 0.3) / math.sqrt(len(flat))
    return (flat @ weights).item(), flat.square().mean().sqrt().item()


def summaries(subject: str) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    for case, numbers in SUBJECTS[subject]():
        yield case, {what: summary(values) for what, values in numbers}


def read() -> dict[str, dict[str, list[float]]]:
    """Of each subject, of each case, the sums in the order in which they are computed."""
    found: dict[str, dict[str, list[float]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def write(subjects: Sequence[str]) -> None:
    """The file with these subjects anew, one line for each case, so that a difference shows which."""
    found = read() if FILE.exists() else {}
    for subject in subjects:
        found[subject] = {case: [float(f"{v:.6g}") for v, _ in of.values()] for case, of in summaries(subject)}
    lines = {
        subject: ",\n".join(f"{json.dumps(case)}: {sums}" for case, sums in found[subject].items())
        for subject in SUBJECTS
        if subject in found
    }
    text = ",\n".join(f"{json.dumps(subject)}: {{\n{cases}\n}}" for subject, cases in lines.items())
    FILE.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(sys.argv[1:] or list(SUBJECTS))
