"""From run directories to the rows of the table: pure functions of their documents."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dgm.registry import MODELS


@dataclass(frozen=True)
class Cell:
    """A number with its spread: over seeds where there are several, else its interval."""

    value: float
    low: float
    high: float
    note: str = ""

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


@dataclass(frozen=True)
class Trained:
    """One run: what the table needs of its directory."""

    model: str
    seed: int
    path: str
    evaluation: Mapping[str, Any]
    steps: int
    seconds: float
    parameters: int
    metrics: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One model of the table. ``likelihood`` has at most one cell a kind, so kinds can't share a column."""

    model: str
    family: str
    paper: str
    seeds: int
    likelihood: dict[str, Cell]
    metrics: dict[str, Cell]
    runs: list[Trained]


KINDS = {
    "exact": "exact",
    "lower_bound": "lower bound",
    "estimate": "estimate",
}
# metric -> (heading, whether more is better)
QUALITY = {
    "frechet": ("Fréchet ↓", False),
    "kernel": ("Kernel ↓", False),
    "precision": ("Precision ↑", True),
    "density": ("Density ↑", True),
    "recall": ("Recall ↑", True),
    "coverage": ("Coverage ↑", True),
    "inception_score": ("Score ↑", True),
    "sharpness": ("Sharpness ↑", True),
    "diversity": ("Diversity ↑", True),
}


def rows(runs: Iterable[Trained], features: str) -> list[Row]:
    """A row a model, in the order of the registry; seeds are averaged."""
    by_model: dict[str, list[Trained]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    place = {name: k for k, name in enumerate(MODELS)}
    return [row(name, by_model[name], features) for name in sorted(by_model, key=lambda name: place.get(name, 10**6))]


def row(model: str, runs: list[Trained], features: str) -> Row:
    spec = MODELS.get(model)
    return Row(
        model=model,
        family=spec.family.replace("_", " ") if spec else "",
        paper=spec.paper if spec else "",
        seeds=len(runs),
        likelihood=best_likelihoods(runs),
        metrics=metrics(runs, features),
        runs=runs,
    )


def best_likelihoods(runs: list[Trained]) -> dict[str, Cell]:
    """Bits a dimension by kind. Of two lower bounds the tighter one, which has more draws, with its method as the note."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        last = {entry["kind"]: entry for entry in run.evaluation["likelihood"]}
        for kind, entry in last.items():
            if kind in KINDS:
                found.setdefault(kind, []).append(entry)
    cells = {}
    for kind, entries in found.items():
        intervals = [(e["bits_per_dim"], 1.96 * e["bits_per_dim_se"]) for e in entries]
        nats = statistics.mean(e["nats"] for e in entries)
        note = f"{entries[0]['method']}; {nats:.2f} nats; {entries[0]['split']}, N = {entries[0]['n']}"
        cells[kind] = over_seeds([Cell(value, value - half, value + half, note) for value, half in intervals])
    return cells


def metrics(runs: list[Trained], features: str) -> dict[str, Cell]:
    found: dict[str, list[Cell]] = {}
    for run in runs:
        for entry in run.evaluation["metrics"]:
            if entry["features"] == features:
                note = (
                    f"{entry['features']} features; N = {entry['n_generated']} and {entry['n_real']} {entry['split']}"
                )
                cell = Cell(entry["value"], entry["low"], entry["high"], f"{note}; {entry['interval']}")
                found.setdefault(entry["name"], []).append(cell)
    return {name: over_seeds(cells) for name, cells in found.items()}


def over_seeds(cells: list[Cell]) -> Cell:
    """The one cell, or the mean with the standard deviation over seeds to either side."""
    if len(cells) == 1:
        return cells[0]
    mean, spread = statistics.mean(c.value for c in cells), statistics.stdev(c.value for c in cells)
    return Cell(mean, mean - spread, mean + spread, f"mean ± standard deviation of {len(cells)} seeds; {cells[0].note}")


def reference(runs: Iterable[Trained], features: str) -> dict[str, float]:
    """What training examples get in the samples' place."""
    for run in runs:
        found = {e["name"]: e["reference"] for e in run.evaluation["metrics"] if e["features"] == features}
        if found:
            return found
    return {}


def mean_of(runs: list[Trained], *path: str) -> float | None:
    """The mean over seeds of a number deep in the evaluations, or None where there is none."""
    values = []
    for run in runs:
        found: Any = run.evaluation
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, (int, float)):
            values.append(float(found))
    return statistics.mean(values) if values else None


def number(value: float) -> str:
    """Three significant digits, with no exponent where none is needed.

    Example:
        >>> number(1234.5), number(0.01234), number(-2.0)
        ('1,234', '0.0123', '-2.00')
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def flat(table: list[Row]) -> list[dict[str, Any]]:
    """One flat row a model for the CSV."""
    return [
        {
            "model": r.model,
            "family": r.family,
            "seeds": r.seeds,
            **{f"bits_per_dim_{kind}": r.likelihood[kind].value if kind in r.likelihood else "" for kind in KINDS},
            **{name: r.metrics[name].value if name in r.metrics else "" for name in QUALITY},
            "copies": mean_of(r.runs, "memorisation", "share"),
            "labels_found": mean_of(r.runs, "modes", "found"),
            "samples_per_second": mean_of(r.runs, "samples", "per_second"),
            "parameters": r.runs[0].parameters,
            "steps": statistics.mean(run.steps for run in r.runs),
            "training_seconds": statistics.mean(run.seconds for run in r.runs),
        }
        for r in table
    ]


def as_csv(table: list[Row]) -> str:
    lines = flat(table)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["model"])
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
