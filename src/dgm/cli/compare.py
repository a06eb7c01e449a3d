"""Train one model of each family on the same data within the same budget, measure them and write one report.

  dgm compare
  dgm compare --data mnist --models vae,ddpm --budget 120s
  dgm compare --seeds 3 --out compare/digits

Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dgm.cli.terminal import Progress
from dgm.errors import BadInput, DgmError, TrainingStopped, UnknownName
from dgm.registry import MODELS, create, entry_point_models
from dgm.settings import seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas between (one of each family)")
    parser.add_argument("--data", default="digits", help="a set of `dgm data`, a folder of images or a file (digits)")
    parser.add_argument("--budget", default="25s", help="time to train each model, such as 25s or 5m (25s)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each model (1)")
    parser.add_argument("--samples", type=int, default=500, help="samples that each is measured by (500)")
    parser.add_argument("--out", help="the folder to write (compare/DATA)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    names, budget = args.models.split(","), seconds(args.budget)
    known = [*MODELS, *entry_point_models()]
    for name in names:
        if name not in known and ":" not in name:
            raise UnknownName.of("model", name, known)
    if args.seeds < 1 or args.samples < 20:
        wrong = f"compare needs at least 1 seed and 20 samples, got {args.seeds} and {args.samples}"
        raise BadInput(wrong, "ask for more")
    from dgm import data

    dataset = data.load(args.data)
    out = Path(args.out or f"compare/{Path(args.data).stem}")
    refuse_another_comparison(out, {"data": dataset.describe(), "budget": budget, "samples": args.samples})
    done, left_out = [], []
    for name in names:
        for seed in range(args.seeds):
            folder = out / name.replace(":", ".") / f"seed-{seed}"
            try:
                make(name, dataset, folder, budget=budget, seed=seed, samples=args.samples, quiet=args.json)
            except TrainingStopped as stop:
                if "stopped at step" in str(stop):
                    raise TrainingStopped("stopped; what is trained is kept", "run the same command to go on") from None
                left_out.append((name, str(stop)))
            except DgmError as error:
                left_out.append((name, str(error)))
                break
            else:
                done.append(folder)
    return finish(done, left_out, out, args.json)


def finish(done: list[Path], left_out: list[tuple[str, str]], out: Path, as_json: bool) -> int:
    from dgm.report.render import write_report
    from dgm.report.table import flat

    for name, reason in left_out:
        print(f"dgm: {name} is left out: {reason}", file=sys.stderr)
    command = shlex.join(["dgm", *sys.argv[1:]])
    table = write_report(done, out / "report.html", command=command, left_out=left_out)
    if as_json:
        print(json.dumps(flat(table), indent=2))
    else:
        show(table)
        print(f"report: {out / 'report.html'}")
    return 1 if left_out else 0


def refuse_another_comparison(out: Path, wanted: dict[str, Any]) -> None:
    """What is trained already may be used again only if it was trained for the same comparison."""
    from dgm.runs import read_json, write_json

    path = out / "comparison.json"
    if not path.is_file():
        if out.exists() and any(out.iterdir()):
            raise BadInput(f"{out} holds something else", "choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_json(wanted, path)
    elif read_json(path) != wanted:
        wrong = f"{out} holds a comparison on other data, with another budget or another number of samples"
        raise BadInput(wrong, "choose another --out, or repeat that command")


def make(name: str, dataset: Any, folder: Path, *, budget: float, seed: int, samples: int, quiet: bool) -> None:
    """Trains and evaluates one model, or what of that is missing."""
    import torch

    from dgm.evaluation import evaluate
    from dgm.runs import load, write_json
    from dgm.training import fit

    if not (folder / "manifest.json").is_file():
        torch.manual_seed(seed)
        model = create(name, dataset.space)
        begun = (folder / "config.json").is_file()
        with Progress(f"{name:>16}", quiet=quiet) as progress:
            for step in fit(model, dataset, out=folder, resume=begun, budget=budget, seed=seed):
                if progress.due():
                    losses = " ".join(f"{player[:8]} {value:.4g}" for player, value in step.losses.items())
                    progress.update(step.progress, f"step {step.step}  {losses}")
    if not (folder / "evaluation.json").is_file():
        with Progress(f"{name:>16}", quiet=quiet) as progress:
            document = evaluate(load(folder), dataset, samples=samples, seed=seed, progress=progress.update)
        write_json(document, folder / "evaluation.json")


def show(table: list[Any]) -> None:
    """The main numbers, for the terminal; the report has them all."""
    from dgm.report.table import KINDS, mean_of, number

    console = Table(box=None, header_style="bold")
    metrics = {"frechet": "Fréchet", "coverage": "coverage"}
    for heading in ("model", *(f"bits/dim, {kind}" for kind in KINDS.values()), *metrics.values(), "samples/s"):
        console.add_column(heading, justify="left" if heading == "model" else "right")
    for row in table:
        likelihoods = [number(row.likelihood[kind].value) if kind in row.likelihood else "" for kind in KINDS]
        measured = [number(row.metrics[name].value) if name in row.metrics else "" for name in metrics]
        console.add_row(row.model, *likelihoods, *measured, number(mean_of(row.runs, "samples", "per_second") or 0))
    Console().print(console)
