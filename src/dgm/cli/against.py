"""``dgm evaluate A --against B``: the table of two runs, two data sets, or a run and a data set."""

from __future__ import annotations

import argparse
import itertools
import json
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm import torchrun
from dgm.cli import own
from dgm.cli.evaluate_results import heading
from dgm.cli.terminal import Progress
from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.data import Dataset
    from dgm.evaluation.sides import Side

LINE = "{:<21}{:>9}  {:<21} {:<21}{:>5}"
NAMES = {"kernel": "mmd cubic (KID)", "neighbour_kl": "KL, neighbours", "neighbour_reverse_kl": "reverse KL, neighb."}
NAMES |= {"mmd_inverse_multiquadric": "mmd multiquadric", "kl": "KL", "reverse_kl": "reverse KL"}
OF_NEIGHBOURS = ("neighbour_kl", "neighbour_reverse_kl")


def run(args: argparse.Namespace) -> int:
    from dgm.evaluation.against import against

    a, b = side(args.run, args), side(args.against, args)
    with Progress("comparing", quiet=args.json or not torchrun.is_first()) as progress:
        document = against(a, b, samples=args.samples, spaces=args.features, progress=progress.update)
    if torchrun.is_first():
        print(json.dumps(document, indent=2)) if args.json else show(document)
    return 0


def side(name: str, args: argparse.Namespace) -> Side:
    """A run directory, or else a data set."""
    from dgm.evaluation.sides import Side
    from dgm.runs import Run, load

    if not is_run(name):
        return Side(name, data_set(name), split=args.split, seed=args.seed)
    own.trust(args, name)
    model = load(name)
    return Side(name, Run(name).dataset(args.data), model, split=args.split, seed=args.seed)


def data_set(name: str) -> Dataset:
    """A data set by its name or path, whose columns have the types that are found: this command has no --types."""
    from dgm import data

    try:
        return data.load(name)
    except BadInput as error:
        if "--types" not in error.remedy:
            raise
        raise BadInput(error.wrong, "leave the column out of the file, or change it there") from error


def is_run(name: str) -> bool:
    """Whether it is a directory with some of a run's files, of which the error of a damaged one is of use."""
    return any((Path(name) / part).exists() for part in ("config.json", "weights.safetensors", "metrics.jsonl"))


def show(document: dict[str, Any]) -> None:
    """Prints the rows by feature space."""
    a, b = document["a"], document["b"]
    heading(f"A: {a['name']}, {a['what']}")
    heading(f"B: {b['name']}, {b['what']}")
    print(LINE.format("", "value", "95 % interval", "B in A's place", "p").rstrip())
    for of, found in itertools.groupby(document["rows"], key=group):
        heading(of)
        for row in found:
            number(row)
    if any(row["name"] in OF_NEIGHBOURS for row in document["rows"]):
        heading(
            "KL by neighbours is far too small, even below 0, where one side has few examples near those of the other, "
            "as in many dimensions: compare it only at the same N"
        )
    for left in document["skipped"]:
        heading(f"not measured: {left['what']}: {left['reason']}")


def group(row: dict[str, Any]) -> str:
    method = f": {row['method']}" if "method" in row else ""
    return f"{row['features']} features{method}" if row["features"] != "density" else f"D(A || B){method}"


def number(row: dict[str, Any]) -> None:
    name = NAMES.get(row["name"], row["name"].replace("_", " "))
    ends = itemgetter("low", "high")
    spread = "{:.3g} … {:.3g}".format(*ends(row)) if row["low"] < row["high"] else ""
    other = "{:.3g} … {:.3g}".format(*ends(row["reference"])) if row["reference"] else ""
    p = "" if "p" not in row else f"{row['p']:.3f}" if row["p"] >= 0.001 else "<.001"
    print(LINE.format(f"  {name}", f"{row['value']:.4g}", spread, other, p).rstrip())
