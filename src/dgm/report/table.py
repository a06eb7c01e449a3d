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


def likelihood(kind: str, place: int = 0, *, given_label: bool = False) -> Reader:
    """Bits a dimension of one kind: of several such numbers the one at ``place``, since later ones take more draws.

    Args:
        given_label: Of log p(x|y), in place of log p(x).
    """

    def read(run: Trained, features: str) -> Cell | None:
        of_kind = [entry for entry in run.evaluation["likelihood"] if entry["kind"] == kind]
        entries = [entry for entry in of_kind if bool(entry.get("condition")) == given_label]
        if len(entries) <= place:
            return None
        entry = entries[place]
        bits, half = entry["bits_per_dim"], Z * entry["bits_per_dim_se"]
        nats = f"{'log p(x|y), ' if given_label else ''}{entry['nats']:.2f} ± {entry['nats_se']:.2f} nats"
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


BITS, GIVEN = "bits per dimension", "bits per dimension, label given"
COLUMNS: Sequence[Column] = (
    Column("exact", BITS, "exact", -1, likelihood("exact"), fixed),
    Column("lower_bound", BITS, "lower bound", -1, likelihood("lower_bound"), fixed),
    Column("tighter_bound", BITS, "bound, K draws", -1, likelihood("lower_bound", 1), fixed),
    Column("estimate", BITS, "estimate", -1, likelihood("estimate"), fixed),
    Column("unnormalised", BITS, "unnormalised", 0, likelihood("unnormalised"), unknown),
    # log p(x|y) and log p(x) are different numbers, and no column ranks one against the other
    Column("exact_given_label", GIVEN, "exact", -1, likelihood("exact", given_label=True), fixed),
    Column("lower_bound_given_label", GIVEN, "lower bound", -1, likelihood("lower_bound", given_label=True), fixed),
    Column(
        "tighter_bound_given_label", GIVEN, "bound, K draws", -1, likelihood("lower_bound", 1, given_label=True), fixed
    ),
    Column("estimate_given_label", GIVEN, "estimate", -1, likelihood("estimate", given_label=True), fixed),
    Column("unnormalised_given_label", GIVEN, "unnormalised", 0, likelihood("unnormalised", given_label=True), unknown),
    Column("kernel", "quality", "kernel", -1, metric("kernel"), number),
    Column("frechet_infinity", "quality", "Fréchet, N → ∞", -1, metric("frechet_infinity"), number),
    Column("frechet", "quality", "Fréchet", -1, metric("frechet"), number),
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
KINDS = {column.key: column.heading for column in COLUMNS if column.group == BITS}
NO_NUMBER = ("unnormalised", "unnormalised_given_label")
FEW = 5000  # samples, below which the bias of the Fréchet distance is as large as what tells models apart


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
        family=spec.family.replace("_", " ") if spec else "own model",
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
    """The columns that some row has a number in; of few samples the kernel distance comes before the Fréchet distance.

    The kernel distance is unbiased at every N; the Fréchet distance of finite sets is not.
    """
    table = list(table)
    present = {key for row in table for key in row.cells}
    found = [column for column in COLUMNS if column.key in present]
    if most_samples(table) < FEW:
        return found
    first = {"frechet": 0, "frechet_infinity": 1, "kernel": 2}
    places = [k for k, column in enumerate(found) if column.key in first]
    for place, column in zip(places, sorted((found[k] for k in places), key=lambda c: first[c.key]), strict=True):
        found[place] = column
    return found


def most_samples(table: Iterable[Row]) -> int:
    """The largest N that a distance in the table was measured with."""
    entries = (entry for row in table for run in row.runs for entry in run.evaluation["metrics"])
    return max((entry["n_generated"] for entry in entries), default=0)


def reference(runs: Iterable[Trained], features: str) -> dict[str, Cell]:
    """What held-out real examples get in the samples' place; for copies, their own share."""
    for run in runs:
        entries = [e for e in run.evaluation["metrics"] if e["features"] == features and e["reference"]]
        if entries:
            levels = {e["name"]: e["reference"] for e in entries}
            note = "held-out real examples"
            found = {name: Cell(level["value"], level["low"], level["high"], note) for name, level in levels.items()}
            copied = run.evaluation.get("memorisation")
            return found | ({"copies": Cell.plain(copied["held_out_share"])} if copied else {})
    return {}


def leaders(table: Iterable[Row], column: Column, level: Cell | None = None) -> set[str]:
    """The models that are best in a column, as far as the intervals can tell: whose interval meets that of the best.

    Nothing is better than real data: a model that meets the interval of ``level`` is as good as one beyond it. Where
    that leaves all models, and where a model is alone in the column, none is best.

    Args:
        level: What held-out real examples get in the samples' place.
    """
    cells = {row.model: row.cells[column.key] for row in table if column.key in row.cells}
    if column.better == 0 or len(cells) < 2:
        return set()
    # turned round, so that more is better
    turned = cells if column.better > 0 else {name: mirrored(cell) for name, cell in cells.items()}
    enough = max(turned.values(), key=lambda cell: cell.value).low
    if level is not None:
        enough = min(enough, (level if column.better > 0 else mirrored(level)).low)
    found = {name for name, cell in turned.items() if cell.high >= enough}
    return found if len(found) < len(cells) else set()


def mirrored(cell: Cell) -> Cell:
    return replace(cell, value=-cell.value, low=-cell.high, high=-cell.low)


def flat(table: Iterable[Row]) -> list[dict[str, Any]]:
    """One flat row a model: each number and, where it has one, its spread. An energy's number is left out."""
    lines = []
    for row in table:
        line: dict[str, Any] = {"model": row.model, "family": row.family, "seeds": len(row.runs)}
        for column in COLUMNS:
            cell = None if column.key in NO_NUMBER else row.cells.get(column.key)
            line[column.key] = cell.value if cell else None
            line |= ends(column.key, cell)
        lines.append(line)
    return lines


def ends(key: str, cell: Cell | None) -> dict[str, float]:
    return {f"{key}_low": cell.low, f"{key}_high": cell.high} if cell and cell.low < cell.high else {}


def flat_reference(cells: Mapping[str, Cell]) -> dict[str, float]:
    """The row of real data, as `flat` writes those of models."""
    return {name: value for key, cell in cells.items() for name, value in {key: cell.value, **ends(key, cell)}.items()}


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
