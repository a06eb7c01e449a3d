"""Measure a trained model: likelihood, sample quality, coverage, copies. Writes evaluation.json into the run.

dgm evaluate runs/vae
dgm evaluate runs/vae --samples 5000 --draws 16 --json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from dgm.cli import own
from dgm.cli.terminal import Progress
from dgm.cli.values import seed, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("--samples", type=whole(20, 100_000), default=1000, help="how many to draw (1000)")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="which split is real (test)")
    parser.add_argument("--features", nargs="+", choices=("pixels", "pca", "classifier"), help="feature spaces (all)")
    parser.add_argument(
        "--draws", type=whole(1, 1_000_000), default=1, help="random draws an example, for bounds and estimates (1)"
    )
    parser.add_argument("--seed", type=seed(), default=0, help="of the samples and the draws (0)")
    own.add_data(parser)
    own.add_trust(parser)
    parser.add_argument(
        "--marginal", action="store_true", help="log p(x) of a conditional model, summed over its labels"
    )
    parser.add_argument("--json", action="store_true", help="print the whole document")


def run(args: argparse.Namespace) -> int:
    from dgm.evaluation import evaluate
    from dgm.evaluation.cautions import cautions
    from dgm.runs import Run, load, write_json

    own.trust(args, args.run)
    model, trained = load(args.run), Run(args.run)
    with Progress("evaluating", quiet=args.json) as progress:
        document = evaluate(
            model,
            trained.dataset(args.data),
            samples=args.samples,
            split=args.split,
            spaces=args.features,
            draws=args.draws,
            seed=args.seed,
            marginal=args.marginal,
            progress=progress.update,
        )
    write_json(document, trained.path / "evaluation.json")
    said = cautions(document, trained.metrics(), trained.config)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        show(document, tokens=model.space.kind == "tokens")
        for sentence in said:
            print(sentence)
    return 0


def show(document: dict[str, Any], *, tokens: bool) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("what", "value", "95 % interval", "real data", "of"):
        table.add_column(column)
    for row in document["likelihood"]:
        spread = 1.96 * row["bits_per_dim_se"]
        low, high = row["bits_per_dim"] - spread, row["bits_per_dim"] + spread
        kind, how = row["kind"].replace("_", " "), f"{row['split']}, N = {row['n']:,}; {row['method']}"
        of = "log p(x|y)" if row["condition"] else "log p(x)"
        table.add_row(f"bits/dim of {of}, {kind}", f"{row['bits_per_dim']:.4g}", f"{low:.4g} … {high:.4g}", "", how)
        low, high = (row["nats"] + sign * 1.96 * row["nats_se"] for sign in (-1, 1))
        table.add_row(f"{of} in nats, {kind}", f"{row['nats']:.5g}", f"{low:.5g} … {high:.5g}", "", how)
        if tokens:
            table.add_row("perplexity a token", f"{row['perplexity']:.4g}", "", "", how)
    for row in document["metrics"]:
        level = row["reference"]
        real = f"{level['value']:.4g} ({level['low']:.4g} … {level['high']:.4g})" if level else ""
        numbers = (f"{row['value']:.4g}", f"{row['low']:.4g} … {row['high']:.4g}", real)
        table.add_row(row["name"].replace("_", " "), *numbers, f"{row['features']}, N = {row['n_generated']}")
    if copied := document.get("memorisation"):
        table.add_row(
            "copies", f"{copied['share']:.1%}", "", f"held out: {copied['held_out_share']:.1%}", copied["rule"]
        )
    if found := document.get("modes"):
        table.add_row("labels found", f"{found['found']} of {found['of']}", "", "", found["rule"])
    if made := document.get("samples"):
        table.add_row(
            "samples a second", f"{made['per_second']:.4g}", "", "", f"{made['threads']} threads, {made['device']}"
        )
    Console().print(table)
    if beside := document["reference"]:
        print(f"real data: held-out examples in the samples' place ({beside['of']}), beside {beside['real']}")
    for left in document["skipped"]:
        print(f"not measured: {left['what']}: {left['reason']}")
