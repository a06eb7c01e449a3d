"""report.html, report.json and report.csv of a set of evaluated runs."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import torch
from PIL import Image

from dgm import __version__
from dgm.data import Dataset, text
from dgm.data.palette import in_colour
from dgm.errors import BadInput
from dgm.evaluation.cautions import cautions, epochs, kept
from dgm.protocols import Batch
from dgm.report import collect, figures
from dgm.report.pictures import grid, lines, scatter
from dgm.report.sound import spectrograms
from dgm.report.table import (
    BITS,
    FEW,
    GIVEN,
    Column,
    Row,
    Trained,
    as_csv,
    columns_of,
    flat,
    flat_reference,
    interval,
    leaders,
    reference,
    rows,
)
from dgm.runs import replacing, write_json
from dgm.space import Space

SPACES = ("classifier", "pca", "pixels")  # the first that was measured is that of the table
DISTANCES = ("kernel", "frechet_infinity", "frechet", "precision", "density", "recall", "coverage")
PARTS = {
    "likelihood": (BITS, GIVEN),
    "quality and coverage": ("quality", "coverage"),
    "score, copies and cost": ("score", "copies", "cost"),
}
PAIRS = 6  # samples beside their nearest training examples
PAIR_SCALE = 40  # pixels of their longer side


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    dataset: Dataset | None = None,
    named: str | None = None,
    command: str = "",
    left_out: Sequence[Mapping[str, str]] = (),
) -> list[Row]:
    """Writes ``out`` (.html) with a .json and a .csv beside it.

    Args:
        paths: Evaluated runs, all of one data set.
        dataset: That data set, where it is loaded already.
        named: Where it is, as the user says, for data of the user's own: see `dgm.runs.Run.dataset`.
        command: What was typed, for the provenance.
        left_out: Models that are not in the table: ``model``, ``why`` (skipped or failed) and ``reason``.

    Returns:
        The rows of the table.
    """
    if not paths:
        raise BadInput("there is no evaluated run to report", "train and evaluate one first")
    runs = [collect.trained(path) for path in paths]
    collect.refuse_different_data(runs)
    dataset = dataset or collect.one_dataset(runs, named)
    spaces = [name for name in SPACES if any(name in run.evaluation.get("features", {}) for run in runs)]
    tables = {name: rows(runs, name) for name in spaces or ["none"]}
    table = next(iter(tables.values()))
    document = summary(runs, tables, dataset, command, left_out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(document, out.with_suffix(".json"))
    for path, content in ((out.with_suffix(".csv"), as_csv(table)), (out, page(tables, dataset, document))):
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return table


def summary(
    runs: Sequence[Trained],
    tables: Mapping[str, list[Row]],
    dataset: Dataset,
    command: str,
    left_out: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """report.json: every number, with the runs that it comes from."""
    return {
        "format": 2,
        "dgm": __version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command,
        "data": dataset.describe() | {"space": dataset.space.to_json()},
        "truth": truth(dataset, runs),
        "tables": {
            name: {"rows": flat(table), "reference": flat_reference(reference(runs, name))}
            for name, table in tables.items()
        },
        "left_out": [dict(left) for left in left_out],
        "runs": [
            {key: value for key, value in asdict(run).items() if key != "metrics"}
            | {"selected": kept(run.metrics, run.config), "cautions": cautions(run.evaluation, run.metrics, run.config)}
            for run in runs
        ],
    }


def truth(dataset: Dataset, runs: Sequence[Trained]) -> float | None:
    """Bits a dimension of the true density, where it is known: what a perfect model gets."""
    if dataset.log_prob is None:
        return None
    split = next((entry["split"] for run in runs for entry in run.evaluation["likelihood"]), "test")
    nats = dataset.log_prob(dataset.splits[split].x).double().mean()
    return float(-nats / (dataset.space.dim * torch.log(torch.tensor(2.0))))


def page(tables: Mapping[str, list[Row]], dataset: Dataset, document: Mapping[str, Any]) -> str:
    files = resources.files("dgm.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"interval": interval, "leaders": leaders, "selected": selected}
    first, table = next(iter(tables.items()))
    levels = {name: reference([run for row in rows for run in row.runs], name) for name, rows in tables.items()}
    return environment.from_string(files.joinpath("report.html").read_text(encoding="utf-8")).render(
        css=files.joinpath("report.css").read_text(encoding="utf-8"),
        tables=tables,
        table=table,
        parts={name: parts(columns_of(rows), name == first) for name, rows in tables.items()},
        levels=levels,
        dataset=dataset,
        document=document,
        runs=[run for row in table for run in row.runs],
        budgets=sorted({budget(run) for row in table for run in row.runs}),
        cards=cards(table, dataset),
        told=told(table),
        few=FEW,
        trilemma=figures.trilemma(table, levels[first]),
        curves=dict(figures.curves(table)),
    )


def parts(columns: Sequence[Column], main: bool) -> dict[str, dict[str, list[Column]]]:
    """Columns under their groups, in tables narrow enough to be seen whole; of a second feature space the distances."""
    shown = [column for column in columns if main or column.key in DISTANCES]
    groups = {group: list(members) for group, members in groupby(shown, lambda column: column.group)}
    found = {title: {name: groups[name] for name in names if name in groups} for title, names in PARTS.items()}
    return {title: members for title, members in found.items() if members}


def told(table: Sequence[Row]) -> dict[str, list[str]]:
    """What to say of each run before its numbers are read: cautions, and what could not be measured."""
    found = {}
    for row in table:
        for run in row.runs:
            skipped = [f"Not measured: {left['what']}: {left['reason']}." for left in run.evaluation["skipped"]]
            name = row.model if len(row.runs) == 1 else f"{row.model}, seed {run.seed}"
            found[name] = cautions(run.evaluation, run.metrics, run.config) + skipped
    return {name: sentences for name, sentences in found.items() if sentences}


def selected(run: Trained) -> str:
    """Which weights were kept, for a reader."""
    line = kept(run.metrics, run.config)
    if line is None:
        return ""
    seen = epochs(line, run.config)
    epoch = "" if seen is None else f", epoch {seen:.3g}"
    why = "the least validation loss" if "validation" in line else "the last ones"
    return f"weights of step {line['step']:,}{epoch}: {why}"


def budget(run: Trained) -> str:
    training = run.config["training"]
    return f"{training['budget']:g} s" if training["budget"] else f"{training['steps']:,} steps"


TEXTS, SOUNDS = 6, 9  # samples shown


def cards(table: Sequence[Row], dataset: Dataset) -> list[dict[str, str]]:
    """Real data, then each model: a picture of its samples, and of some beside their nearest training examples."""
    split = next((m["split"] for row in table for m in row.runs[0].evaluation["metrics"]), "test")
    real = collect.real(dataset, split)
    found = [{"name": "real data", "family": f"{split} split", "samples": picture(real, dataset, real)}]
    for row in table:
        x = collect.samples(row.runs[0], dataset)
        if x is None:
            continue
        card = {"name": row.model, "family": row.family, "samples": picture(x, dataset, real)}
        if len(dataset.space.shape) == 3 and dataset.space.kind != "tokens":
            near = collect.nearest(row.runs[0], dataset)
            if len(near):
                card["neighbours"] = encoded(pairs(x, near, dataset.space))
        found.append(card)
    return found


def pairs(x: Batch, nearest: Batch, space: Space) -> Image.Image:
    """Two rows: samples, and below each the training example nearest to it."""
    n = min(PAIRS, len(nearest))
    scale = max(1, round(PAIR_SCALE / max(space.shape[1:])))
    return grid(torch.cat([x[:n], nearest[:n]]), space, columns=n, scale=scale)


def picture(x: Batch, dataset: Dataset, beside: Batch) -> str:
    """Images in a grid, text as text, sound as spectrograms, all else as points or histograms."""
    about = dataset.describe()
    if about["alphabet"] or about["options"].get("bytes"):
        return encoded(lines([text.decode(tokens, about) for tokens in x[:TEXTS]]))
    if dataset.rate:
        return encoded(spectrograms(x[:SOUNDS], dataset.rate))
    if len(dataset.space.shape) == 3:
        return encoded(grid(*in_colour(x, dataset.space, about)))
    return encoded(scatter(x, dataset.space, beside, dataset.columns))


def encoded(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
