"""Train one model of each family on the same data within the same budget, evaluate them and write one report.

dgm compare
dgm compare --data mnist --models vae,ddpm --budget 120s
dgm compare --seeds 3 --out compare/digits

After an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dgm.cli import condition, own
from dgm.cli import out as output
from dgm.cli.data import add_table_options, table_options
from dgm.cli.terminal import Progress, Stdout
from dgm.cli.values import whole
from dgm.errors import BadInput
from dgm.registry import ONE_OF_EACH_FAMILY
from dgm.settings import seconds

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.data import Dataset
    from dgm.report.table import Cell, Column, Row

WIDTH = 80  # characters in a line
MOST_SEEDS = 1000
MOST_SAMPLES = 100_000
KINDS = ("exact", "lower_bound", "estimate")
GIVEN = tuple(f"{kind}_given_label" for kind in KINDS)
# the columns of a table's measures, with short headings
OF_A_TABLE = {
    "total_variation": "TV",
    "kolmogorov_smirnov": "KS",
    "correlation": "correlation off",
    "cramers_v": "V off",
    "utility": "trained",
    "closest_5th": "closest",
}
LEGEND = (
    "TV: total variation; KS: Kolmogorov-Smirnov; correlation and Cramér's V: off by so much; trained on samples: "
    "{score} of '{column}' on real rows; closest: 5th percentile of the distance to the closest training row"
)
MAIN_COLUMNS = (*KINDS, *GIVEN, "kernel", "frechet_infinity", "coverage", "per_second")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", default=",".join(ONE_OF_EACH_FAMILY), help="names, separated by commas (one of each family)"
    )
    parser.add_argument("--data", default="digits", help="a set of `dgm data`, a folder of images or a file (digits)")
    add_table_options(parser)
    parser.add_argument(
        "--conditional", action="store_true", help="train conditional models on the condition of the data"
    )
    condition.add_arguments(parser, "all samples, and of the real examples that they are compared with")
    parser.add_argument("--budget", default="25s", help="time to train each model, such as 25s or 5m (25s)")
    parser.add_argument("--seeds", type=whole(1, MOST_SEEDS), default=1, help="number of seeds for each model (1)")
    parser.add_argument(
        "--samples", type=whole(20, MOST_SAMPLES), default=500, help="number of samples for the evaluation (500)"
    )
    parser.add_argument("--target", help="of a table: the column to predict after training on samples (the last one)")
    parser.add_argument("--out", help="output folder (compare/DATA)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    names, budget = args.models.split(","), seconds(args.budget)
    for name in names:
        own.model_class(name)  # also imports a class from the working directory
    import dgm
    from dgm.report.table import flat

    dataset = dgm.data.load(args.data, **table_options(args))
    y = chosen_condition(args, dataset)
    out = output.place(f"compare/{Path(args.data).stem}" if args.out is None else args.out)
    how: dict[str, Any] = {"budget": budget, "seeds": args.seeds, "samples": args.samples, "condition": y}
    how["target"] = args.target
    with Progress("comparing", quiet=args.json) as progress:
        command = shlex.join(["dgm", *sys.argv[1:]])
        comparison = dgm.compare(
            dataset, out, names, conditional=args.conditional, command=command, progress=progress.update, **how
        )
    for left in comparison.left_out:
        print(f"dgm: {left['model']} {left['why']}: {left['reason']}", file=sys.stderr)
    if args.json:
        print(json.dumps(flat(comparison.table), indent=2))
    else:
        show(comparison.table)
        print(f"report: {comparison.report}")
    return 1 if comparison.failed else 0


def chosen_condition(args: argparse.Namespace, dataset: Dataset) -> Tensor | None:
    """The chosen condition, (*shape); None without one."""
    if args.label is None and args.condition is None:
        return None
    if dataset.condition is None:
        raise BadInput("this data has no condition", "leave --label and --condition out")
    return condition.chosen(args, dataset.condition, dataset.names, most=1)[0]


def show(table: list[Row]) -> None:
    """Prints the main numbers in the terminal; the report has all numbers."""
    from dgm.report.table import columns_of, reference

    columns = columns_of(table)
    shown = [column for column in columns if column.key in MAIN_COLUMNS]
    show_columns(table, shown, {})
    said = " or against those of a given label" if any(column.key in GIVEN for column in shown) else ""
    print(f"likelihoods in bits per dimension; kinds must not be ranked against one another{said}")
    if of_table := [column for column in columns if column.key in OF_A_TABLE]:
        runs = [run for row in table for run in row.runs]
        features = next((entry["features"] for run in runs for entry in run.evaluation["metrics"]), "")
        show_columns(table, of_table, reference(runs, features))
        measured = next(run for run in runs if run.evaluation.get("table"))
        print(textwrap.fill(LEGEND.format_map(measured.evaluation["table"]["target"]), WIDTH))


def show_columns(table: list[Row], shown: Sequence[Column], cells: Mapping[str, Cell]) -> None:
    """Prints some columns of the table, and below them the ``cells`` of held-out rows."""
    console = Table(box=None, header_style="bold", pad_edge=False)
    console.add_column("model", no_wrap=True)
    for column in shown:
        given = ", condition given" if column.key in GIVEN else ""
        heading = OF_A_TABLE.get(column.key, column.heading)
        console.add_column(f"{heading}{given} {column.arrow}", justify="right")
    rows = [(row.model, row.cells) for row in table] + ([("held-out rows", cells)] if cells else [])
    for name, values in rows:
        console.add_row(
            name, *(column.show(values[column.key].value) if column.key in values else "" for column in shown)
        )
    Stdout().print(console)
