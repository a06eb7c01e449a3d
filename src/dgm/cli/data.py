"""List the data sets with their locations and sizes, or show the content of one.

dgm data
dgm data digits
dgm data pictures/ --json
dgm data people.csv --types "zip=category,id=skip"
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from dgm.cli.terminal import Stdout
from dgm.condition import decode
from dgm.data.table import SETS, folder_of

if TYPE_CHECKING:
    from dgm.data import Dataset

CONDITION_COLUMNS = "a table: names of the columns that are the condition of the others, separated by commas"
TYPES = 'a table: types of columns, as in "age=integer,zip=category,share=real 0..1,id=skip"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a set, a folder of images or a file")
    add_table_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", help=TYPES)
    parser.add_argument("--condition-columns", help=CONDITION_COLUMNS)


def table_options(args: argparse.Namespace) -> dict[str, str]:
    """The options of a table that the user sets."""
    return {name: value for name in ("types", "condition_columns") if (value := getattr(args, name)) is not None}


def run(args: argparse.Namespace) -> int:
    document: Any = content(args.name, table_options(args)) if args.name else listed()
    if args.json:
        print(json.dumps(document, indent=2))
        return 0
    if args.name:
        columns = document.pop("columns")
        for key, value in document.items():
            print(f"{key:>9}  {value}")
        if columns:
            print()
            show(columns, list(columns[0]))
        return 0
    show(document, ["name", "summary", "where"])
    files = ".npy, .npz, .csv, .parquet, .txt, .tar, or a saved data set of Arrow files"
    print(f"Your own: a folder of images or of .wav files, {files}. See docs/conditions.md and docs/tables.md.")
    return 0


def show(rows: list[dict[str, Any]], keys: list[str]) -> None:
    table = Table(box=None, header_style="bold")
    for key in keys:
        table.add_column("content" if key == "summary" else key, no_wrap=key == keys[0])
    for row in rows:
        table.add_row(*(escape(str(row[key])) for key in keys))
    Stdout().print(table)


def listed() -> list[dict[str, Any]]:
    """One row for each data set. Its folder is searched in DGM_DATA and in the user's cache."""
    rows = []
    for name, spec in SETS.items():
        folder = folder_of(spec) if spec.folder else None
        missing = f"not here; downloads {spec.size / 1e6:.0f} MB when first used"
        if spec.source:
            missing = f"not here; copy it from {spec.source}"
        where = str(folder) if folder else missing if spec.folder else "included, no download"
        rows.append({"name": name, "summary": spec.summary, "where": where, "bytes": spec.size})
    return rows


def condition(dataset: Dataset) -> str:
    """A description of the examples' condition, with an example."""
    if dataset.condition is None or dataset.train.y is None or len(dataset.train) == 0:
        return "none"
    if dataset.labels:
        return f"label: {', '.join(dataset.labels)}"
    example = decode(dataset.train.y[0], dataset.condition, dataset.names)
    return f"{dataset.condition}" + (f", such as {example}" if example else "")


def content(name: str, options: dict[str, str]) -> dict[str, Any]:
    """The description of a data set: its space, the sizes of its splits, its condition and its columns."""
    import torch

    from dgm import data
    from dgm.data.columns import overview

    dataset = data.load(name, **options)
    described = dataset.describe()
    sizes = ", ".join(f"{part} {size:,}" for part, size in described["sizes"].items())
    shown = {"name": described["name"], "space": str(dataset.space), "sizes": sizes, "split": described["split"]}
    shown |= {"condition": condition(dataset), "sha256": described["sha256"]}
    columns: list[dict[str, str]] = []
    if dataset.columns:
        columns = overview(dataset.columns, torch.cat([split.x for split in dataset.splits.values()]))
    return shown | {"columns": columns}
