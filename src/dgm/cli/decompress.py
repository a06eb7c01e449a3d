"""Restore the files that `dgm compress` coded, by the same run.

dgm decompress runs/shakespeare play.dgm --out play.txt
dgm decompress runs/pixelcnn pictures.dgm --out pictures/
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from dgm.cli import out as output
from dgm.cli import own
from dgm.cli.terminal import Progress
from dgm.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="the run directory of the model that compressed them")
    parser.add_argument("file", help="a file that `dgm compress` wrote")
    parser.add_argument("--out", required=True, help="the file, or the folder of several files")
    parser.add_argument("--salvage", action="store_true", help="of a damaged file, restore the undamaged blocks")
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    out = output.new(args.out)
    import dgm
    from dgm.compression.archive import decompress
    from dgm.runs import Run

    own.trust(args, args.run)
    if not Path(args.file).is_file():
        raise BadInput(f"there is no file {args.file}", "check the path")
    model, about = dgm.load(args.run), Run(args.run).config["data"]
    with Progress(f"decompressing {args.file}") as progress:
        lost = decompress(model, about, Path(args.file), out, salvage=args.salvage, progress=progress.update)
    if lost:
        print(f"{out}: block {spans(lost)} lost, zeros in the place of its examples")
        return 1
    print(f"{out}")
    return 0


def spans(numbers: Sequence[int]) -> str:
    """Increasing numbers in one line, consecutive ones by the first and the last.

    Example:
        >>> spans([0, 4, 5, 6])
        '0, 4-6'
    """
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
