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
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dgm.cli import out as output
from dgm.cli import own
from dgm.cli.data import add_table_options, table_options
from dgm.cli.terminal import Progress, Stdout
from dgm.cli.values import whole
from dgm.errors import BadInput, DgmError, Interrupted, Unsupported, one_line
from dgm.registry import ONE_OF_EACH_FAMILY, create
from dgm.settings import seconds

if TYPE_CHECKING:
    from dgm.data import Dataset
    from dgm.report.table import Row
    from dgm.space import Space

CHECKPOINT_EVERY = 10.0  # seconds: what a kill costs at most
MOST_SEEDS = 1000
MOST_SAMPLES = 100_000
KINDS = ("exact", "lower_bound", "estimate")
GIVEN = tuple(f"{kind}_given_label" for kind in KINDS)
MAIN_COLUMNS = (*KINDS, *GIVEN, "kernel", "frechet_infinity", "coverage", "per_second")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", default=",".join(ONE_OF_EACH_FAMILY), help="names with commas between (one of each family)"
    )
    parser.add_argument("--data", default="digits", help="a set of `dgm data`, a folder of images or a file (digits)")
    add_table_options(parser)
    parser.add_argument("--conditional", action="store_true", help="train each on the data's condition")
    parser.add_argument("--budget", default="25s", help="time to train each model, such as 25s or 5m (25s)")
    parser.add_argument("--seeds", type=whole(1, MOST_SEEDS), default=1, help="trainings of each model (1)")
    parser.add_argument(
        "--samples", type=whole(20, MOST_SAMPLES), default=500, help="samples that each is measured by (500)"
    )
    parser.add_argument("--out", help="the folder to write (compare/DATA)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    names, budget = args.models.split(","), seconds(args.budget)
    refuse_bad(names)
    from dgm import data

    dataset = data.load(args.data, **table_options(args))
    out = output.place(f"compare/{Path(args.data).stem}" if args.out is None else args.out)
    if args.conditional and dataset.condition is None:
        raise BadInput("this data has no condition", "leave --conditional out, or give one: see docs/conditions.md")
    condition = dataset.condition if args.conditional else None
    wanted = {"data": dataset.describe(), "budget": budget, "samples": args.samples}
    refuse_another_comparison(out, wanted | ({"conditional": True} if args.conditional else {}))
    done: list[Path] = []
    left_out: list[dict[str, str]] = []
    for name in names:
        for seed in range(args.seeds):
            folder = out / name.replace(":", ".") / f"seed-{seed}"
            try:
                how = {"budget": budget, "seed": seed, "samples": args.samples, "quiet": args.json}
                make(name, dataset, condition, folder, **how)
                done.append(folder)
            except Interrupted:
                raise Interrupted("stopped; what is trained is kept", "run the same command to go on") from None
            except Unfit as reason:
                left_out.append({"model": name, "why": "is skipped", "reason": str(reason)})
                break
            except OSError:
                raise  # a full disk or a missing permission is no model's fault
            except Exception as error:  # one model's failure, whatever it is, must not cost the others' work
                left_out.append({"model": name, "why": f"failed under seed {seed}", "reason": one_line(error)})
    return finish(done, left_out, dataset, out, args.json)


class Unfit(DgmError):
    """A model that does not take this data, by its nature."""

    def __init__(self, reason: DgmError) -> None:
        Exception.__init__(self, str(reason))


def refuse_bad(names: list[str]) -> None:
    for name in names:
        own.model_class(name)  # says what is wrong with the name


def refuse_another_comparison(out: Path, wanted: dict[str, Any]) -> None:
    """What is trained already may be used again only if it was trained for the same comparison."""
    from dgm.documents import Comparison, checked, read
    from dgm.runs import write_json

    path = out / "comparison.json"
    if not path.is_file():
        if out.exists() and any(out.iterdir()):
            raise BadInput(f"{out} holds something else", "choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_json(wanted, path)
        return
    held = checked(read(path), Comparison, path)
    different = [name for name in wanted if held.get(name) != wanted[name]]
    if different:
        wrong = f"{out} holds a comparison with other {' and '.join(different)}"
        raise BadInput(wrong, "choose another --out, or repeat its command")


def make(
    name: str,
    dataset: Dataset,
    condition: Space | None,
    folder: Path,
    *,
    budget: float,
    seed: int,
    samples: int,
    quiet: bool,
) -> None:
    """Trains and evaluates one model, or what of that is missing."""
    from dgm.evaluation import evaluate
    from dgm.report.collect import is_evaluated
    from dgm.runs import Run, load, write_json

    with Progress(f"{name:>16}, seed {seed}", quiet=quiet) as progress:
        if not (folder / "manifest.json").is_file():
            train(name, dataset, condition, folder, budget, seed, progress)
        trained = Run(folder)
        if is_evaluated(trained):
            return progress.update(1.0, "done before")
        steps = f"{trained.metrics()[-1]['step']} steps"

        def tell(fraction: float, what: str) -> None:
            if progress.due():
                progress.update(1.0, f"{steps}, measuring: {what}")

        document = evaluate(load(folder), dataset, samples=samples, seed=seed, progress=tell)
        write_json(document, folder / "evaluation.json")
        return progress.update(1.0, f"{steps}, measured")


def train(
    name: str,
    dataset: Dataset,
    condition: Space | None,
    folder: Path,
    budget: float,
    seed: int,
    progress: Progress,
) -> None:
    import torch

    from dgm.training import fit

    torch.manual_seed(seed)
    try:
        model = create(name, dataset.space, condition)
    except (BadInput, Unsupported) as reason:
        raise Unfit(reason) from reason
    begun = (folder / "config.json").is_file()
    if folder.exists() and not begun:  # killed before its first file: only the lock is there
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()
    chosen = {"budget": budget, "seed": seed, "checkpoint_every": CHECKPOINT_EVERY}
    for step in fit(model, dataset, out=folder, resume=begun, **chosen):
        if progress.due():
            losses = "  ".join(f"{player} {value:.4g}" for player, value in step.losses.items())
            progress.update(step.progress, f"step {step.step}  {losses}")


def finish(done: list[Path], left_out: list[dict[str, str]], dataset: Dataset, out: Path, as_json: bool) -> int:
    for left in left_out:
        print(f"dgm: {left['model']} {left['why']}: {left['reason']}", file=sys.stderr)
    failed = any(left["why"].startswith("failed") for left in left_out)
    if not done:
        if {path.name for path in out.iterdir()} == {"comparison.json"}:  # nothing was begun that could go on
            (out / "comparison.json").unlink()
            out.rmdir()
        raise BadInput("no model could be trained on this data", "the lines above say why")
    from dgm.report.render import write_report
    from dgm.report.table import flat

    command = shlex.join(["dgm", *sys.argv[1:]])
    table = write_report(done, out / "report.html", dataset=dataset, command=command, left_out=left_out)
    if as_json:
        print(json.dumps(flat(table), indent=2))
    else:
        show(table)
        print(f"report: {out / 'report.html'}")
    return 1 if failed else 0


def show(table: list[Row]) -> None:
    """The main numbers, for the terminal; the report has them all."""
    from dgm.report.table import columns_of

    shown = [column for column in columns_of(table) if column.key in MAIN_COLUMNS]
    console = Table(box=None, header_style="bold", pad_edge=False)
    console.add_column("model", no_wrap=True)
    for column in shown:
        given = ", condition given" if column.key in GIVEN else ""
        console.add_column(f"{column.heading}{given} {column.arrow}", justify="right")
    for row in table:
        console.add_row(
            row.model,
            *(column.show(row.cells[column.key].value) if column.key in row.cells else "" for column in shown),
        )
    Stdout().print(console)
    said = " or against those of a given label" if any(column.key in GIVEN for column in shown) else ""
    print(f"likelihoods in bits per dimension; kinds must not be ranked against one another{said}")
