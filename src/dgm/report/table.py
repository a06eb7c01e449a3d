"""From evaluated runs to the rows of the table: pure functions of their documents.

What is compared is a visible list of columns. Each kind of likelihood is a column of its own, so that no number can be
ranked against one of another kind.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from dgm.registry import MODELS

Z = 1.96  # half the width of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Cell:
    """A number with its spread: a 95 % interval of one run, or the standard deviation over several seeds.

    Attributes:
        low, high: Both equal to ``value`` where the number has no spread.
        note: How it was measured, for a tooltip.
    """

    value: float
    low: float
    high: float
    note: str = ""
    seeds: int = 1

    @classmethod
    def plain(cls, value: float, note: str = "") -> Cell:
        return cls(value, value, value, note)


@dataclass(frozen=True)
class Trained:
    """One run: what the report needs of its directory."""

    model: str
    seed: int
    path: str
    evaluation: Mapping[str, Any]
    steps: int
    seconds: float
    parameters: int
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    metrics: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Row:
    """One model of the table; its cells by the key of their column."""

    model: str
    family: str
    paper: str
    cells: Mapping[str, Cell]
    runs: Sequence[Trained]


Reader: TypeAlias = Callable[[Trained, str], Cell | None]


@dataclass(frozen=True)
class Column:
    """One number of each model.

    Attributes:
        read: From a run and the name of a feature space, the number or None.
        show: How it is written.
        better: Which way is better, +1 or -1; 0 for a number that has no better.
    """

    key: str
    group: str
    heading: str
    better: int
    read: Reader
    show: Callable[[float], str]

    @property
    def arrow(self) -> str:
        return {1: "↑", 0: "", -1: "↓"}[self.better]


def number(value: float) -> str:
    """Three significant digits, with no exponent where none is needed.

    Example:
        >>> number(1234.5), number(0.01234), number(-2.0), number(0)
        ('1,234', '0.0123', '-2.00', '0')
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def fixed(value: float) -> str:
    return f"{value:.3f}"


def share(value: float) -> str:
    """
    >>> share(0.0125)
    '1.2 %'
    """
    return f"{100 * value:.1f} %"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def count(value: float) -> str:
    return f"{value:.3g}"


def unknown(value: float) -> str:
    return "log Z unknown"


def interval(cell: Cell, show: Callable[[float], str]) -> str:
    """The spread alone: ``[1.10, 1.38]`` of one run, ``± 0.12`` over seeds, nothing for a number without.

    Example:
        >>> interval(Cell(1.23, 1.1, 1.38), number)
        '[1.10, 1.38]'
    """
    if cell.low == cell.high:
        return ""
    return f"± {show(cell.high - cell.value)}" if cell.seeds > 1 else f"[{show(cell.low)}, {show(cell.high)}]"


def likelihood(kind: str, place: int = 0) -> Reader:
    """Bits a dimension of one kind: of several such numbers the one at ``place``, since later ones take more draws."""

    def read(run: Trained, features: str) -> Cell | None:
        entries = [entry for entry in run.evaluation["likelihood"] if entry["kind"] == kind]
        if len(entries) <= place:
            return None
        entry = entries[place]
        bits, half = entry["bits_per_dim"], Z * entry["bits_per_dim_se"]
        nats = f"{entry['nats']:.2f} ± {entry['nats_se']:.2f} nats"
        return Cell(bits, bits - half, bits + half, f"{nats}; {entry['method']}; {entry['split']}, N = {entry['n']}")

    return read


def metric(name: str) -> Reader:
    def read(run: Trained, features: str) -> Cell | None:
        for entry in run.evaluation["metrics"]:
            if entry["name"] == name and entry["features"] == features:
                sizes = f"N = {entry['n_generated']} samples, {entry['n_real']} of {entry['split']}"
                note = f"{features} features; {sizes}; {entry['interval']}"
                return Cell(entry["value"], entry["low"], entry["high"], note)
        return None

    return read


def part(section: str, key: str, note: str = "rule") -> Reader:
    """A plain number of a section of the evaluation, with another of its entries as the note."""

    def read(run: Trained, features: str) -> Cell | None:
        found = run.evaluation.get(section)
        return Cell.plain(float(found[key]), str(found.get(note, ""))) if found else None

    return read


COLUMNS: Sequence[Column] = (
    Column("exact", "bits per dimension", "exact", -1, likelihood("exact"), fixed),
    Column("lower_bound", "bits per dimension", "lower bound", -1, likelihood("lower_bound"), fixed),
    Column("tighter_bound", "bits per dimension", "bound, K draws", -1, likelihood("lower_bound", 1), fixed),
    Column("estimate", "bits per dimension", "estimate", -1, likelihood("estimate"), fixed),
    Column("unnormalised", "bits per dimension", "unnormalised", 0, likelihood("unnormalised"), unknown),
    Column("frechet", "quality", "Fréchet", -1, metric("frechet"), number),
    Column("kernel", "quality", "kernel", -1, metric("kernel"), number),
    Column("precision", "quality", "precision", 1, metric("precision"), number),
    Column("density", "quality", "density", 1, metric("density"), number),
    Column("recall", "coverage", "recall", 1, metric("recall"), number),
    Column("coverage", "coverage", "coverage", 1, metric("coverage"), number),
    Column("labels", "coverage", "labels found", 1, part("modes", "found"), count),
    Column("inception_score", "score", "score", 1, metric("inception_score"), number),
    Column("sharpness", "score", "sharpness", 1, metric("sharpness"), number),
    Column("diversity", "score", "diversity", 1, metric("diversity"), number),
    Column("copies", "copies", "copies", 0, part("memorisation", "share"), share),
    Column("per_second", "cost", "samples/s", 1, part("samples", "per_second", "threads"), number),
    Column("seconds", "cost", "training, s", 0, lambda run, _: Cell.plain(run.seconds), whole),
    Column("steps", "cost", "steps", 0, lambda run, _: Cell.plain(run.steps), whole),
    Column("parameters", "cost", "parameters", 0, lambda run, _: Cell.plain(run.parameters), whole),
)
KINDS = {column.key: column.heading for column in COLUMNS if column.group == "bits per dimension"}


def rows(runs: Iterable[Trained], features: str) -> list[Row]:
    """A row a model, in the order of the registry; seeds are averaged."""
    by_model: dict[str, list[Trained]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    place = {name: k for k, name in enumerate(MODELS)}
    return [row(name, by_model[name], features) for name in sorted(by_model, key=lambda name: place.get(name, 10**6))]


def row(model: str, runs: list[Trained], features: str) -> Row:
    spec = MODELS.get(model)
    cells = {column.key: across([column.read(run, features) for run in runs]) for column in COLUMNS}
    return Row(
        model=model,
        family=spec.family.replace("_", " ") if spec and spec.family != model else "",
        paper=spec.paper if spec else "",
        cells={key: cell for key, cell in cells.items() if cell is not None},
        runs=runs,
    )


def across(cells: Iterable[Cell | None]) -> Cell | None:
    """Of one run its own cell; of several seeds their mean, with one standard deviation to either side."""
    found = [cell for cell in cells if cell is not None]
    if len(found) <= 1:
        return found[0] if found else None
    mean, spread = statistics.mean(cell.value for cell in found), statistics.stdev(cell.value for cell in found)
    note = f"mean ± standard deviation of {len(found)} seeds; of the first: {found[0].note}"
    return Cell(mean, mean - spread, mean + spread, note, seeds=len(found))


def columns_of(table: Iterable[Row]) -> list[Column]:
    """The columns that some row has a number in."""
    present = {key for row in table for key in row.cells}
    return [column for column in COLUMNS if column.key in present]


def reference(runs: Iterable[Trained], features: str) -> dict[str, float]:
    """What training examples get in the samples' place; for copies, what held-out examples get."""
    for run in runs:
        found = {e["name"]: e["reference"] for e in run.evaluation["metrics"] if e["features"] == features}
        if found:
            return found | {"copies": run.evaluation["memorisation"]["held_out_share"]}
    return {}


def leaders(table: Iterable[Row], column: Column) -> set[str]:
    """The models that are best in a column, as far as the intervals can tell: whose interval meets that of the best.

    Alone in a column, no model is best.
    """
    cells = {row.model: row.cells[column.key] for row in table if column.key in row.cells}
    if column.better == 0 or len(cells) < 2:
        return set()
    # turned round, so that more is better
    turned = cells if column.better > 0 else {name: mirrored(cell) for name, cell in cells.items()}
    best = max(turned.values(), key=lambda cell: cell.value)
    return {name for name, cell in turned.items() if cell.high >= best.low}


def mirrored(cell: Cell) -> Cell:
    return replace(cell, value=-cell.value, low=-cell.high, high=-cell.low)


def flat(table: Iterable[Row]) -> list[dict[str, Any]]:
    """One flat row a model: each number and, where it has one, its spread. An energy's number is left out."""
    lines = []
    for row in table:
        line: dict[str, Any] = {"model": row.model, "family": row.family, "seeds": len(row.runs)}
        for column in COLUMNS:
            cell = None if column.key == "unnormalised" else row.cells.get(column.key)
            line[column.key] = cell.value if cell else None
            if cell and cell.low < cell.high:
                line |= {f"{column.key}_low": cell.low, f"{column.key}_high": cell.high}
        lines.append(line)
    return lines


def as_csv(table: Iterable[Row]) -> str:
    lines = flat(table)
    known = {name for line in lines for name in line}
    names = ["model", "family", "seeds"]
    names += [name for c in COLUMNS for name in (c.key, f"{c.key}_low", f"{c.key}_high") if name in known]
    out = io.StringIO()
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
