"""Write the report of runs that are trained and evaluated already.

dgm report runs/vae runs/ddpm --out report.html
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dgm.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", help="run directories of one data set, evaluated")
    parser.add_argument(
        "--out", default="report.html", help="the page to write; .json and .csv come beside it (report.html)"
    )


def run(args: argparse.Namespace) -> int:
    from dgm.report.render import write_report

    out = Path(args.out)
    if out.suffix != ".html":
        raise BadInput(f"--out must end in .html, got {out}", "choose another name")
    write_report([Path(path) for path in args.runs], out, command=shlex.join(["dgm", *sys.argv[1:]]))
    print(f"report: {out}")
    return 0
