"""Writes report.html, report.json and report.csv of a set of evaluated runs."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
from dgm.evaluation.cautions import cautions, epochs, selected_line
from dgm.files import in_json, replacing
from dgm.inputs import place
from dgm.protocols import Batch
from dgm.report import collect, conditions, figures
from dgm.report.pictures import grid, lines, scatter
from dgm.report.sound import spectrograms
from dgm.report.study import of_runs, section
from dgm.report.table import (
    BESIDE,
    BITS,
    CODES,
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
from dgm.runs import runs_in
from dgm.space import Space
from dgm.study.analysis import Analysis

SPACES = ("classifier", "pca", "pixels")  # the table has the first one that was evaluated
DISTANCES = ("kernel", "frechet_infinity", "frechet", "precision", "density", "recall", "coverage")
PARTS = {
    "likelihood": (BITS, GIVEN),
    "quality and coverage": ("quality", "coverage"),
    "columns of the table": ("table",),
    "codes of held-out examples": (CODES, BESIDE),
    "score, memorisation and cost": ("score", "memorisation", "cost"),
}
PAIRS = 6  # samples shown with their nearest training examples
PAIR_SCALE = 40  # pixels of the longer side of one of them


def write_report(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    dataset: Dataset | None = None,
    data_path: str | None = None,
    command: str = "dgm.write_report",
    left_out: Sequence[Mapping[str, str]] = (),
    study: str | Path | None = None,
) -> list[Row]:
    """Writes ``out`` (.html), and the same name with .json and .csv.

    Args:
        paths: Evaluated runs, all of one data set, or folders of them.
        dataset: That data set; by default it is loaded.
        data_path: The path of the user's own data: see `dgm.runs.Run.dataset`.
        command: The command line, for the provenance.
        left_out: Models that are not in the table: ``model``, ``why`` (skipped or failed) and ``reason``.
        study: A file of answers of `dgm study`, for a section with its results.

    Returns:
        The rows of the table.

    Raises:
        DamagedRun: For a folder without runs, or a run that has not been trained to its end or not been evaluated.
        BadInput: For no run, runs of several data sets, or another ending of ``out``.
    """
    out = place("out", out)
    if out.suffix != ".html":
        raise BadInput(f"a report must end in .html, got {out}", "choose another name")
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise BadInput("there is no evaluated run to report", "train and evaluate one first")
    runs = [collect.trained(run) for path in paths for run in runs_in(place("a run", path))]
    collect.refuse_different_data(runs)
    dataset = dataset or collect.one_dataset(runs, data_path)
    spaces = [name for name in SPACES if any(name in run.evaluation.get("features", {}) for run in runs)]
    tables = {name: rows(runs, name) for name in spaces or ["none"]}
    table = next(iter(tables.values()))
    judged = None if study is None else of_runs(study, dataset, runs)
    document = summary(runs, tables, dataset, command, left_out)
    document |= {} if judged is None else {"study": asdict(judged)}
    files = {".json": in_json(document), ".csv": as_csv(table), ".html": page(tables, dataset, document, judged)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as all_written:  # so that none of them replaces another report's if one cannot be written
        for suffix, content in files.items():
            all_written.enter_context(replacing(out.with_suffix(suffix))).write_text(content, encoding="utf-8")
    return table


def summary(
    runs: Sequence[Trained],
    tables: Mapping[str, list[Row]],
    dataset: Dataset,
    command: str,
    left_out: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The content of report.json: all values, with the runs that they come from."""
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
            | {
                "selected": selected_line(run.metrics, run.config),
                "cautions": cautions(run.evaluation, run.metrics, run.config),
            }
            for run in runs
        ],
    }


def truth(dataset: Dataset, runs: Sequence[Trained]) -> float | None:
    """Bits per dimension of the true density where it is known, the optimum of every model."""
    if dataset.log_prob is None:
        return None
    split = next((entry["split"] for run in runs for entry in run.evaluation["likelihood"]), "test")
    nats = dataset.log_prob(dataset.splits[split].x).double().mean()
    return float(-nats / (dataset.space.dim * torch.log(torch.tensor(2.0))))


def page(
    tables: Mapping[str, list[Row]], dataset: Dataset, document: Mapping[str, Any], judged: Analysis | None
) -> str:
    files = resources.files("dgm.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"interval": interval, "leaders": leaders, "selection": selection}
    first, table = next(iter(tables.items()))
    runs = [run for row in table for run in row.runs]
    references = {name: reference([run for row in rows for run in row.runs], name) for name, rows in tables.items()}
    return environment.from_string(files.joinpath("report.html").read_text(encoding="utf-8")).render(
        css=files.joinpath("report.css").read_text(encoding="utf-8"),
        tables=tables,
        table=table,
        column_groups={name: column_groups(columns_of(rows), name == first) for name, rows in tables.items()},
        references=references,
        dataset=dataset,
        document=document,
        runs=runs,
        evaluation=min((run.evaluation for run in runs), key=lambda found: found.get("interrupted", False)),
        budgets=sorted({budget(run) for row in table for run in row.runs}),
        cards=cards(table, dataset),
        warnings=warnings_of(table),
        conditional_cards=conditional_cards(table, dataset),
        few=FEW,
        study="" if judged is None else section(judged),
        trilemma=figures.trilemma(table, references[first]),
        curves=dict(figures.curves(table)),
        symptoms=dict(figures.symptoms(table)),
    )


def column_groups(columns: Sequence[Column], main: bool) -> dict[str, dict[str, list[Column]]]:
    """Columns by group, in tables that fit the page; only the distances of a further feature space."""
    chosen = [column for column in columns if main or column.key in DISTANCES]
    groups = {group: list(members) for group, members in groupby(chosen, lambda column: column.group)}
    tables = {title: {name: groups[name] for name in names if name in groups} for title, names in PARTS.items()}
    return {title: members for title, members in tables.items() if members}


def warnings_of(table: Sequence[Row]) -> dict[str, list[str]]:
    """The cautions of each run, and the measures that failed."""
    sentences = {}
    for row in table:
        for run in row.runs:
            skipped = [f"Not measured: {left['what']}: {left['reason']}." for left in run.evaluation.get("skipped", [])]
            name = row.model if len(row.runs) == 1 else f"{row.model}, seed {run.seed}"
            sentences[name] = cautions(run.evaluation, run.metrics, run.config) + skipped
    return {name: sentences for name, sentences in sentences.items() if sentences}


def selection(run: Trained) -> str:
    """A description of the selected weights."""
    line = selected_line(run.metrics, run.config)
    if line is None:
        return ""
    seen = epochs(line, run.config)
    epoch = "" if seen is None else f", epoch {seen:.3g}"
    why = "the lowest validation loss" if "validation" in line else "the last step"
    return f"weights of step {line['step']:,}{epoch}: {why}"


def budget(run: Trained) -> str:
    training = run.config["training"]
    return f"{training['budget']:g} s" if training["budget"] else f"{training['steps']:,} steps"


TEXTS, SOUNDS = 6, 9  # samples shown


def cards(table: Sequence[Row], dataset: Dataset) -> list[dict[str, str]]:
    """Pictures of real data and of each model: samples, and some samples with their nearest training examples."""
    split = next((m["split"] for row in table for m in row.runs[0].evaluation["metrics"]), "test")
    real = collect.real(dataset, split)
    result = [{"name": "real data", "family": f"{split} split", "samples": picture(real, dataset, real)}]
    for row in table:
        x = collect.samples(row.runs[0], dataset)
        if x is None:
            continue
        card = {"name": row.model, "family": row.family, "samples": picture(x, dataset, real)}
        if len(dataset.space.shape) == 3 and dataset.space.kind != "tokens":
            neighbours = collect.nearest(row.runs[0], dataset)
            if len(neighbours):
                card["neighbours"] = data_uri(pairs(x, neighbours, dataset.space))
        result.append(card)
    return result


def conditional_cards(table: Sequence[Row], dataset: Dataset) -> list[dict[str, str]]:
    """Real examples of some conditions, and samples of each conditional model; empty without conditional models."""
    if dataset.condition is None or len(dataset.space.shape) != 3:
        return []
    split = next((m["split"] for row in table for m in row.runs[0].evaluation["metrics"]), "test")
    y = conditions.conditions_shown(dataset, split)
    drawn = [(row, x) for row in table if (x := collect.of_conditions(row.runs[0], y)) is not None]
    if not drawn:
        return []
    real = data_uri(conditions.picture(conditions.real_rows(dataset, split, y), y, dataset))
    found = [{"name": "real data", "family": f"{split} split", "samples": real}]
    for row, x in drawn:
        shown = data_uri(conditions.picture(list(x), y, dataset))
        found.append({"name": row.model, "family": row.family, "samples": shown})
    return found


def pairs(x: Batch, nearest: Batch, space: Space) -> Image.Image:
    """Two rows: samples, and below each its nearest training example."""
    n = min(PAIRS, len(nearest))
    scale = max(1, round(PAIR_SCALE / max(space.shape[1:])))
    return grid(torch.cat([x[:n], nearest[:n]]), space, columns=n, scale=scale)


def picture(x: Batch, dataset: Dataset, real: Batch) -> str:
    """A picture of examples: a grid of images, lines of text, spectrograms, points or histograms."""
    about = dataset.describe()
    if about["alphabet"] or about["options"].get("bytes"):
        return data_uri(lines([text.decode(tokens, about) for tokens in x[:TEXTS]]))
    if dataset.rate:
        return data_uri(spectrograms(x[:SOUNDS], dataset.rate))
    if len(dataset.space.shape) == 3:
        return data_uri(grid(*in_colour(x, dataset.space, about)))
    return data_uri(scatter(x, dataset.space, real, dataset.columns))


def data_uri(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
