"""The table of evaluated runs, as pure functions of their documents.

`COLUMNS` lists all metrics. Each kind of likelihood has its own column, so that different kinds are never ranked
against each other.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from dgm.models.table import MODELS
from dgm.registry import family

Z = 1.96  # half the width of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Cell:
    """A number with its spread: a 95 % interval of one run, or the standard deviation over several seeds.

    Attributes:
        low, high: Both equal to ``value`` where the number has no spread.
        note: The method of measurement, for a tooltip.
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
    """One evaluated run, with the data that the report uses."""

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
    """One model of the table, its cells by the key of the column."""

    model: str
    family: str
    paper: str
    cells: Mapping[str, Cell]
    runs: Sequence[Trained]


Reader: TypeAlias = Callable[[Trained, str], Cell | None]


@dataclass(frozen=True)
class Column:
    """One metric of all models.

    Attributes:
        read: Gives the cell of a run in a feature space, or None.
        show: Formats the value.
        better: +1 if higher is better, -1 if lower is better, 0 if neither is.
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
    """A whole number, or three significant digits of another, without an exponent if possible.

    Example:
        >>> number(1234.5), number(0.01234), number(-2.0), number(11)
        ('1,234', '0.0123', '-2.00', '11')
    """
    if isinstance(value, int):
        return f"{value:,}"
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


def integer(value: float) -> str:
    return f"{value:,.0f}"


def count(value: float) -> str:
    return f"{value:.3g}"


def unnormalised_text(value: float) -> str:
    return "log Z unknown"


def interval(cell: Cell, show: Callable[[float], str]) -> str:
    """The formatted spread: ``[1.10, 1.38]`` of one run, ``± 0.12`` over seeds, empty without a spread.

    Example:
        >>> interval(Cell(1.23, 1.1, 1.38), number)
        '[1.10, 1.38]'
    """
    if cell.low == cell.high:
        return ""
    return f"± {show(cell.high - cell.value)}" if cell.seeds > 1 else f"[{show(cell.low)}, {show(cell.high)}]"


def likelihood(kind: str, place: int = 0, *, given_label: bool = False) -> Reader:
    """Reads the bits per dimension of one kind of likelihood.

    Args:
        place: Index among several entries of that kind; later ones use more draws.
        given_label: Read log p(x|y) in place of log p(x).
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


def entry_of(section: str, key: str, note: str = "rule") -> Reader:
    """Reads a plain number from a section of the evaluation, with another entry of the section as the note."""

    def read(run: Trained, features: str) -> Cell | None:
        values = run.evaluation.get(section)
        return Cell.plain(float(values[key]), str(values.get(note, ""))) if values else None

    return read


def of_table(name: str) -> Reader:
    """Reads a measure of a table's columns."""

    def read(run: Trained, features: str) -> Cell | None:
        table = run.evaluation.get("table") or {}
        found = table.get("measures", {}).get(name)
        return Cell.plain(found["value"], f"N = {table['n']}") if found else None

    return read


def in_use(run: Trained, features: str) -> Cell | None:
    """The share of the codebook's entries in use."""
    book = run.evaluation.get("codebook")
    note = "" if book is None else f"{book['used']} of {book['entries']} entries; {book['codes']:,} codes"
    return None if book is None else Cell.plain(book["used"] / book["entries"], note)


def divergence(run: Trained, features: str) -> Cell | None:
    """The KL divergence of the posterior from the prior, summed over dimensions."""
    codes = run.evaluation.get("codes")
    return None if codes is None else Cell.plain(sum(codes["kl"]), f"{len(codes['kl'])} dimensions, N = {codes['n']:,}")


def information(run: Trained, features: str) -> Cell | None:
    codes = run.evaluation.get("codes") or {}
    found = codes.get("mutual_information")
    return None if found is None else Cell.plain(found, f"N = {codes['n']:,}")


def probe(run: Trained, features: str) -> Cell | None:
    """The accuracy of the linear probe, the mean over the parts of the condition."""
    judged = run.evaluation.get("representation") or {}
    if not judged.get("probe"):
        return None
    chance = ", ".join(f"{name}: {value:.1%}" for name, value in judged["most_frequent"].items())
    return Cell.plain(statistics.fmean(judged["probe"].values()), f"N = {judged['n']:,}; most frequent: {chance}")


def of_codes(key: str) -> Reader:
    """Reads a measure of the codes beside the condition, which not every condition has."""

    def read(run: Trained, features: str) -> Cell | None:
        judged = run.evaluation.get("representation") or {}
        return Cell.plain(float(judged[key]), f"N = {judged['n']:,}; {judged['rule']}") if key in judged else None

    return read


MEASURES = {
    "ari": "k-means, ARI",
    "nmi": "k-means, NMI",
    "mig": "MIG",
    "sap": "SAP",
    "disentanglement": "DCI disentangled",
    "completeness": "DCI complete",
    "informativeness": "DCI informative",
    "factor_vae": "FactorVAE score",
}
CHAINS = "chains of a sample"
CODES, BESIDE = "codes", "codes beside the condition"
BITS, GIVEN = "bits per dimension", "bits per dimension, condition given"
COLUMNS: Sequence[Column] = (
    Column("exact", BITS, "exact", -1, likelihood("exact"), fixed),
    Column("lower_bound", BITS, "lower bound", -1, likelihood("lower_bound"), fixed),
    Column("tighter_bound", BITS, "bound, K draws", -1, likelihood("lower_bound", 1), fixed),
    Column("estimate", BITS, "estimate", -1, likelihood("estimate"), fixed),
    Column("unnormalised", BITS, "unnormalised", 0, likelihood("unnormalised"), unnormalised_text),
    # log p(x|y) and log p(x) are different numbers, and no column ranks one against the other
    Column("exact_given_label", GIVEN, "exact", -1, likelihood("exact", given_label=True), fixed),
    Column("lower_bound_given_label", GIVEN, "lower bound", -1, likelihood("lower_bound", given_label=True), fixed),
    Column(
        "tighter_bound_given_label", GIVEN, "bound, K draws", -1, likelihood("lower_bound", 1, given_label=True), fixed
    ),
    Column("estimate_given_label", GIVEN, "estimate", -1, likelihood("estimate", given_label=True), fixed),
    Column(
        "unnormalised_given_label",
        GIVEN,
        "unnormalised",
        0,
        likelihood("unnormalised", given_label=True),
        unnormalised_text,
    ),
    Column("kernel", "quality", "kernel", -1, metric("kernel"), number),
    Column("frechet_infinity", "quality", "Fréchet, N → ∞", -1, metric("frechet_infinity"), number),
    Column("frechet", "quality", "Fréchet", -1, metric("frechet"), number),
    Column("precision", "quality", "precision", 1, metric("precision"), number),
    Column("density", "quality", "density", 1, metric("density"), number),
    Column("recall", "coverage", "recall", 1, metric("recall"), number),
    Column("coverage", "coverage", "coverage", 1, metric("coverage"), number),
    Column("labels", "coverage", "modes covered", 1, entry_of("modes", "found"), count),
    Column("agreement", "coverage", "condition followed", 1, entry_of("agreement", "share"), share),
    Column("total_variation", "table", "total variation", -1, of_table("total_variation"), fixed),
    Column("kolmogorov_smirnov", "table", "Kolmogorov-Smirnov", -1, of_table("kolmogorov_smirnov"), fixed),
    Column("correlation", "table", "correlation, off", -1, of_table("correlation"), fixed),
    Column("cramers_v", "table", "Cramér's V, off", -1, of_table("cramers_v"), fixed),
    Column("utility", "table", "trained on samples", 1, of_table("utility"), fixed),
    Column("closest", "table", "closest row, median", 0, of_table("closest"), number),
    Column("closest_5th", "table", "closest row, 5th percentile", 0, of_table("closest_5th"), number),
    Column("r_hat", CHAINS, "R̂, 1 if mixed", 0, entry_of("mixing", "r_hat"), fixed),
    Column("effective", CHAINS, "effective sample size", 0, entry_of("mixing", "effective"), count),
    Column("active_units", CODES, "active dimensions", 0, entry_of("codes", "active_units"), count),
    Column("code_kl", CODES, "KL(q || p), nats", 0, divergence, number),
    Column("code_information", CODES, "I(x; z), nats", 0, information, number),
    Column("codebook_used", CODES, "codebook used", 0, in_use, share),
    Column("codebook_perplexity", CODES, "codebook perplexity", 0, entry_of("codebook", "perplexity", "split"), number),
    Column("probe", BESIDE, "linear probe", 1, probe, share),
    *(Column(key, BESIDE, heading, 1, of_codes(key), fixed) for key, heading in MEASURES.items()),
    Column("inception_score", "score", "score", 1, metric("inception_score"), number),
    Column("sharpness", "score", "sharpness", 1, metric("sharpness"), number),
    Column("diversity", "score", "diversity", 1, metric("diversity"), number),
    Column("memorised", "memorisation", "memorised", 0, entry_of("memorisation", "share"), share),
    Column("per_second", "cost", "samples/s", 1, entry_of("samples", "per_second", "threads"), number),
    Column("seconds", "cost", "training, s", 0, lambda run, _: Cell.plain(run.seconds), integer),
    Column("steps", "cost", "steps", 0, lambda run, _: Cell.plain(run.steps), integer),
    Column("parameters", "cost", "parameters", 0, lambda run, _: Cell.plain(run.parameters), integer),
)
KINDS = {column.key: column.heading for column in COLUMNS if column.group == BITS}
UNNORMALISED = ("unnormalised", "unnormalised_given_label")
FEW = 5000  # samples: below this the bias of the Fréchet distance is as large as the differences between models


def rows(runs: Iterable[Trained], features: str) -> list[Row]:
    """One row for each model, in the order of the registry, averaged over seeds."""
    by_model: dict[str, list[Trained]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    place = {name: k for k, name in enumerate(MODELS)}
    return [row(name, by_model[name], features) for name in sorted(by_model, key=lambda name: place.get(name, 10**6))]


def row(model: str, runs: list[Trained], features: str) -> Row:
    spec = MODELS.get(model)
    cells = {column.key: over_seeds([column.read(run, features) for run in runs]) for column in COLUMNS}
    return Row(
        model=model,
        family=family(runs[0].config.get("model", {"name": model})),
        paper=spec.paper if spec else "",
        cells={key: cell for key, cell in cells.items() if cell is not None},
        runs=runs,
    )


def over_seeds(cells: Iterable[Cell | None]) -> Cell | None:
    """The cell of a single run, or the mean over several seeds plus or minus one standard deviation."""
    values = [cell for cell in cells if cell is not None]
    if len(values) <= 1:
        return values[0] if values else None
    mean, spread = statistics.mean(cell.value for cell in values), statistics.stdev(cell.value for cell in values)
    note = f"mean ± standard deviation of {len(values)} seeds; of the first: {values[0].note}"
    return Cell(mean, mean - spread, mean + spread, note, seeds=len(values))


def columns_of(table: Iterable[Row]) -> list[Column]:
    """The columns that are not empty; with few samples the kernel distance comes before the Fréchet distance.

    The kernel distance is unbiased for every N; the Fréchet distance of finite sets is biased.
    """
    table = list(table)
    present = {key for row in table for key in row.cells}
    columns = [column for column in COLUMNS if column.key in present]
    if most_samples(table) < FEW:
        return columns
    first = {"frechet": 0, "frechet_infinity": 1, "kernel": 2}
    places = [k for k, column in enumerate(columns) if column.key in first]
    for place, column in zip(places, sorted((columns[k] for k in places), key=lambda c: first[c.key]), strict=True):
        columns[place] = column
    return columns


def most_samples(table: Iterable[Row]) -> int:
    """The largest number of samples of a distance in the table."""
    entries = (entry for row in table for run in row.runs for entry in run.evaluation["metrics"])
    return max((entry["n_generated"] for entry in entries), default=0)


def reference(runs: Iterable[Trained], features: str) -> dict[str, Cell]:
    """The reference values of held-out real examples; for memorisation, their own share."""
    for run in runs:
        entries = [e for e in run.evaluation["metrics"] if e["features"] == features and e["reference"]]
        if entries:
            reference_values = {e["name"]: e["reference"] for e in entries}
            note = "held-out real examples"
            cells = {name: Cell(r["value"], r["low"], r["high"], note) for name, r in reference_values.items()}
            measures = (run.evaluation.get("table") or {}).get("measures", {})
            levels = {name: found["reference"] for name, found in measures.items() if found["reference"]}
            cells |= {name: Cell(r["value"], r["low"], r["high"], note) for name, r in levels.items()}
            memorisation = run.evaluation.get("memorisation")
            return cells | ({"memorised": Cell.plain(memorisation["held_out_share"])} if memorisation else {})
    return {}


def leaders(table: Iterable[Row], column: Column, reference_cell: Cell | None = None) -> set[str]:
    """The models that are best in a column: all whose interval overlaps with that of the best model.

    No model counts as better than real data: all whose interval overlaps with that of the reference are equally good.
    The set is empty if it would contain all models, or if the column has a single model.

    Args:
        reference_cell: The reference value of held-out real examples.
    """
    cells = {row.model: row.cells[column.key] for row in table if column.key in row.cells}
    if column.better == 0 or len(cells) < 2:
        return set()
    # the sign is flipped where lower is better
    oriented = cells if column.better > 0 else {name: negated(cell) for name, cell in cells.items()}
    threshold = max(oriented.values(), key=lambda cell: cell.value).low
    if reference_cell is not None:
        threshold = min(threshold, (reference_cell if column.better > 0 else negated(reference_cell)).low)
    best = {name for name, cell in oriented.items() if cell.high >= threshold}
    return best if len(best) < len(cells) else set()


def negated(cell: Cell) -> Cell:
    return replace(cell, value=-cell.value, low=-cell.high, high=-cell.low)


def flat(table: Iterable[Row]) -> list[dict[str, Any]]:
    """One flat row for each model: all values and their spreads, without unnormalised log-densities."""
    lines = []
    for row in table:
        line: dict[str, Any] = {"model": row.model, "family": row.family, "seeds": len(row.runs)}
        for column in COLUMNS:
            cell = None if column.key in UNNORMALISED else row.cells.get(column.key)
            line[column.key] = cell.value if cell else None
            line |= interval_ends(column.key, cell)
        lines.append(line)
    return lines


def interval_ends(key: str, cell: Cell | None) -> dict[str, float]:
    return {f"{key}_low": cell.low, f"{key}_high": cell.high} if cell and cell.low < cell.high else {}


def flat_reference(cells: Mapping[str, Cell]) -> dict[str, float]:
    """The row of real data in the format of `flat`."""
    return {
        name: value
        for key, cell in cells.items()
        for name, value in {key: cell.value, **interval_ends(key, cell)}.items()
    }


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
