"""Write the report of trained and evaluated runs.

dgm report runs/vae runs/ddpm --out report.html
dgm report compare/digits
dgm report runs/vae --study study.jsonl             with the answers of people to `dgm study`
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dgm.cli import out as output
from dgm.cli import own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", help="evaluated run directories of one data set, or folders of them")
    out = "the page to write, with a .json and a .csv file of its numbers beside it (report.html)"
    parser.add_argument("--out", default="report.html", help=out)
    parser.add_argument("--study", help="a file of answers of `dgm study`, for a section on it")
    own.add_data(parser)
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    out = output.place(args.out)
    import dgm
    from dgm.runs import runs_in

    own.trust(args, *(path for given in args.runs for path in runs_in(Path(given))))
    dgm.write_report(args.runs, out, data_path=args.data, study=args.study, command=shlex.join(["dgm", *sys.argv[1:]]))
    print(f"report: {out}")
    return 0
