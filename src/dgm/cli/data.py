"""List the data sets: what they are, where they are, what they take. Or show what one holds.

dgm data
dgm data digits
dgm data pictures/ --json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dgm.cli.terminal import Stdout
from dgm.condition import decode
from dgm.data.table import SETS, found

if TYPE_CHECKING:
    from dgm.data import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a set, a folder of images or a file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    document: Any = held(args.name) if args.name else listed()
    if args.json:
        print(json.dumps(document, indent=2))
        return 0
    if args.name:
        for key, value in document.items():
            print(f"{key:>9}  {value}")
        return 0
    table = Table(box=None, header_style="bold")
    for column in ("name", "what it is", "where"):
        table.add_column(column, no_wrap=column == "name")
    for row in document:
        table.add_row(row["name"], row["summary"], row["where"])
    Stdout().print(table)
    print("Your own: a folder of images or of .wav files, .npy, .npz, .csv, .parquet or .txt. See docs/conditions.md.")
    return 0


def listed() -> list[dict[str, Any]]:
    """A row a set. Folders are looked for in DGM_DATA and in the user's cache."""
    rows = []
    for name, spec in SETS.items():
        folder = found(spec) if spec.folder else None
        missing = f"not here; downloads {spec.size / 1e6:.0f} MB when first used"
        if spec.source:
            missing = f"not here; copy it from {spec.source}"
        where = str(folder) if folder else missing if spec.folder else "carried, no download"
        rows.append({"name": name, "summary": spec.summary, "where": where, "bytes": spec.size})
    return rows


def condition(dataset: Dataset) -> str:
    """What the examples' condition is, with an example of it."""
    if dataset.condition is None or dataset.train.y is None or len(dataset.train) == 0:
        return "none"
    if dataset.labels:
        return f"label: {', '.join(dataset.labels)}"
    example = decode(dataset.train.y[0], dataset.condition, dataset.names)
    return f"{dataset.condition}" + (f", such as {example}" if example else "")


def held(name: str) -> dict[str, Any]:
    from dgm import data

    dataset = data.load(name)
    described = dataset.describe()
    sizes = ", ".join(f"{part} {size:,}" for part, size in described["sizes"].items())
    shown = {"name": described["name"], "space": str(dataset.space), "sizes": sizes, "split": described["split"]}
    return shown | {"condition": condition(dataset), "sha256": described["sha256"]}
