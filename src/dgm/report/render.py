"""report.html, report.json and report.csv of a set of runs."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import torch
from PIL import Image

from dgm import __version__
from dgm.data import Dataset
from dgm.errors import BadInput, DamagedRun
from dgm.report import figures
from dgm.report.pictures import grid, scatter
from dgm.report.table import KINDS, QUALITY, Row, Trained, as_csv, flat, mean_of, number, reference, rows
from dgm.runs import Run, load, read_json, replacing, write_json
from dgm.space import Space

SHOWN = 49
NEIGHBOURS = 10


def read(path: Path) -> Trained:
    """One evaluated run.

    Raises:
        DamagedRun: Where it has not been evaluated.
    """
    run = Run(path)
    if not (path / "evaluation.json").is_file():
        raise DamagedRun(f"{path} has not been evaluated", f"run: dgm evaluate {path}")
    metrics = run.metrics()
    return Trained(
        model=run.config["model"]["name"],
        seed=run.config["training"]["seed"],
        path=str(path),
        evaluation=read_json(path / "evaluation.json"),
        steps=metrics[-1]["step"] if metrics else 0,
        seconds=metrics[-1]["seconds"] if metrics else 0.0,
        parameters=sum(p.numel() for p in run.untrained().parameters()),
        metrics=metrics,
    )


def write_report(
    paths: Sequence[Path], out: Path, *, command: str = "", left_out: Sequence[tuple[str, str]] = ()
) -> list[Row]:
    """Writes ``out`` (.html) with a .json and a .csv beside it.

    Args:
        paths: Evaluated runs, all of one data set.
        command: What was typed, for the provenance.
        left_out: Models that are not in the table, with the reason.
    """
    runs = [read(path) for path in paths]
    if not runs:
        raise BadInput("there is no evaluated run to report", "train and evaluate one first")
    dataset = one_dataset(paths)
    features = runs[0].evaluation["metrics"][0]["features"] if runs[0].evaluation["metrics"] else "pixels"
    table = rows(runs, features)
    document = {
        "format": 1,
        "dgm": __version__,
        "command": command,
        "data": dataset.describe(),
        "features": features,
        "reference": reference(runs, features),
        "table": flat(table),
        "left_out": [{"model": model, "reason": reason} for model, reason in left_out],
        "runs": [{key: value for key, value in asdict(run).items() if key != "metrics"} for run in runs],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(document, out.with_suffix(".json"))
    for path, text in ((out.with_suffix(".csv"), as_csv(table)), (out, page(table, dataset, document))):
        with replacing(path) as temporary:
            temporary.write_text(text)
    return table


def one_dataset(paths: Sequence[Path]) -> Dataset:
    hashes = {Run(path).config["data"]["sha256"]: path for path in paths}
    if len(hashes) > 1:
        named = ", ".join(map(str, hashes.values()))
        raise BadInput(f"the runs were trained on different data: {named}", "report runs of one data set together")
    return Run(paths[0]).dataset()


def page(table: list[Row], dataset: Dataset, document: dict[str, Any]) -> str:
    template = resources.files("dgm.report").joinpath("report.html").read_text()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: "" if value is None else number(float(value))
    environment.globals |= {"mean_of": mean_of, "best": best(table)}
    return environment.from_string(template).render(
        table=table,
        dataset=dataset,
        document=document,
        kinds=KINDS,
        quality={name: heading for name, (heading, _) in QUALITY.items() if any(name in row.metrics for row in table)},
        triangle=figures.triangle(table),
        curves=figures.curves(table),
        real=picture(dataset.test.x[:SHOWN], dataset.space),
        panels=[panel(row, dataset) for row in table],
        machine=table[0].runs[0].evaluation["provenance"],
        cores=os.cpu_count(),
    )


def best(table: list[Row]) -> set[tuple[str, str]]:
    """(column, model) of the best number of each column. Kinds of likelihood are columns of their own."""
    found = set()
    for name, (_, more) in QUALITY.items():
        values = {row.model: row.metrics[name].value for row in table if name in row.metrics}
        if values:
            found.add((name, (max if more else min)(values, key=lambda model: values[model])))
    for kind in KINDS:
        bits = {row.model: row.likelihood[kind].value for row in table if kind in row.likelihood}
        if len(bits) > 1:
            found.add((kind, min(bits, key=lambda model: bits[model])))
    return found


def panel(row: Row, dataset: Dataset) -> dict[str, Any]:
    """A model's samples, and some of them above their nearest training examples."""
    x = load(row.runs[0].path).sample(SHOWN, seed=0)
    shown = {"model": row.model, "family": row.family, "samples": picture(x, dataset.space), "neighbours": ""}
    nearest = row.runs[0].evaluation["memorisation"]["nearest"][:NEIGHBOURS]
    if len(dataset.space.shape) == 3:
        pairs = torch.cat([x[: len(nearest)], dataset.train.x[torch.tensor(nearest)]])
        shown["neighbours"] = encoded(grid(pairs, dataset.space, columns=len(nearest)))
    return shown


def picture(x: torch.Tensor, space: Space) -> str:
    return encoded(grid(x, space) if len(space.shape) == 3 else scatter(x, space))


def encoded(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
