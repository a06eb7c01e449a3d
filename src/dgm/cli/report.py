"""Write the report of trained and evaluated runs.

dgm report runs/vae runs/ddpm --out report.html
dgm report compare/digits
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dgm.cli import out as output
from dgm.cli import own
from dgm.errors import BadInput, DamagedRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", help="evaluated run directories of one data set, or folders of them")
    out = "the page to write, with a .json and a .csv file of its numbers beside it (report.html)"
    parser.add_argument("--out", default="report.html", help=out)
    own.add_data(parser)
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    out = output.place(args.out)
    if out.suffix != ".html":
        raise BadInput(f"--out must end in .html, got {out}", "choose another name")
    from dgm.report.render import write_report

    paths = [path for given in args.runs for path in runs_in(Path(given))]
    own.trust(args, *paths)
    write_report(paths, out, data_path=args.data, command=shlex.join(["dgm", *sys.argv[1:]]))
    print(f"report: {out}")
    return 0


def runs_in(folder: Path) -> list[Path]:
    """``folder`` itself if it is a run; otherwise all runs below it."""
    if (folder / "config.json").is_file():
        return [folder]
    folders = sorted(path.parent for path in folder.rglob("config.json"))
    if not folders:
        raise DamagedRun(f"{folder} is not a run directory and contains none", "name one that `dgm train --out` wrote")
    return folders
