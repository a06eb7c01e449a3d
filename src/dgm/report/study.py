"""The section of a report on a human study of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jinja2

from dgm.data import Dataset
from dgm.errors import BadInput
from dgm.report.table import Trained
from dgm.study.analysis import Analysis, analyse
from dgm.study.tables import tables


def of_runs(path: str | Path, dataset: Dataset, runs: Sequence[Trained]) -> Analysis:
    """The results of a study, with a note on models that are not those of the report.

    Raises:
        BadInput: If the study is of other data.
    """
    found = analyse(path)
    if found.study["sha256"] != dataset.describe()["sha256"]:
        wrong = f"{path} is a study of {found.study['data']}, the report is of {dataset.name}"
        raise BadInput(wrong, "name a study of the same data")
    reported = {run.weights for run in runs}
    others = [run["name"] for run in found.study["runs"] if run["weights"] not in reported]
    note = f"Studied, and not in this report with the same weights: {', '.join(others)}."
    return replace(found, notes=[*found.notes, note]) if others else found


def section(found: Analysis) -> str:
    """Its HTML."""
    template = resources.files("dgm.report").joinpath("study.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(found=found, tables=tables(found))
