"""Let people judge samples in the browser, and analyse their answers.

dgm study runs/vae runs/ddpm                        real or generated, by HYPE's staircase, then pairs; Ctrl-C ends it
dgm study runs/vae --untimed --trials 100 --pairs 0 real or generated, without a time limit
dgm study --analyse study.jsonl                     error rates, HYPE scores, Bradley-Terry ranks, agreement
dgm report runs/vae runs/ddpm --study study.jsonl   the same as a section of the report

The page is at 127.0.0.1, for this machine alone; each person presses Begin. The answers are kept in a file, a line
each; started again with the same options, the study continues.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from dataclasses import asdict

from rich.table import Table

from dgm.cli import out as output
from dgm.cli import own
from dgm.cli.terminal import Progress, Stdout
from dgm.cli.values import seed, whole
from dgm.errors import BadInput

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", help="run directories of one data set")
    parser.add_argument("--out", default="study.jsonl", help="the file of answers, new or to continue (study.jsonl)")
    parser.add_argument(
        "--trials",
        type=whole(0, 100_000),
        help="real-or-generated trials of each run, half of them real (150; untimed 100)",
    )
    parser.add_argument("--pairs", type=whole(0, 100_000), default=40, help="trials of which is better (40)")
    parser.add_argument("--untimed", action="store_true", help="show images for as long as a person likes")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="of real data (test)")
    parser.add_argument("--seed", type=seed(), default=0, help="random seed of the samples and of the orders (0)")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=whole(0, 65535), default=PORT, help=f"port of the page; 0: a free one ({PORT})")
    parser.add_argument("--analyse", metavar="FILE", help="print the results of a file of answers; no page is served")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    own.add_data(parser)
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    if args.analyse is not None:
        if args.runs:
            raise BadInput(
                f"--analyse reads one file of answers, got the runs {' '.join(args.runs)} too", "leave them out"
            )
        return show(args.analyse, as_json=args.json)
    if args.json:
        raise BadInput("--json is of --analyse", "leave it out, or name a file of answers")
    if not args.runs:
        raise BadInput("no run is named", "name runs that `dgm train --out` wrote")
    out = output.place(args.out)
    from dgm.study.opening import open_study
    from dgm.study.server import LOOPBACK, listening, serve

    own.trust(args, *args.runs)
    with listening(args.host, args.port) as where:
        with Progress("drawing the examples") as progress:
            session = open_study(
                args.runs,
                out,
                data=args.data,
                trials=args.trials,
                pairs=args.pairs,
                timed=False if args.untimed else None,
                split=args.split,
                seed=args.seed,
                progress=progress.update,
            )
        host, port = where.getsockname()
        print(f"study: http://{host}:{port}/  ({len(session.raters)} people so far; Ctrl-C ends it)", flush=True)
        if host not in LOOPBACK:
            print("everyone who can reach this address can take part", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            serve(session, where)
    held = session.file.held
    print(f"{len(held.answers)} answers of {len(held.raters)} people in {out}; see: dgm study --analyse {out}")
    return 0


def show(path: str, *, as_json: bool) -> int:
    from dgm.study.analysis import analyse
    from dgm.study.tables import tables

    found = analyse(path)
    if as_json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return 0
    console = Stdout()
    for made in tables(found):
        table = Table()
        for heading, cells in zip(made.headings, zip(*made.rows, strict=True), strict=True):
            table.add_column(heading, min_width=max(len(text) for cell in cells for text in cell))  # only headings wrap
        for row in made.rows:
            table.add_row(*("\n".join(filter(None, cell)) for cell in row))
        console.print(f"{made.title}. {made.about}", highlight=False, markup=False)
        console.print(table)
    for note in found.notes:
        console.print(note, highlight=False, markup=False)
    return 0
