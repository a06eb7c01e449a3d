"""Download a run from the Hugging Face hub into a run directory. No code is downloaded.

dgm pull ada/digits-vae --out runs/ada
"""

from __future__ import annotations

import argparse

from dgm.cli import out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the repository, as user/name")
    parser.add_argument("--out", required=True, help="the run directory to write; must not exist")
    parser.add_argument("--revision", help="a branch, a tag or a commit (the newest)")


def run(args: argparse.Namespace) -> int:
    import dgm

    where = dgm.pull(args.name, out.new(args.out), revision=args.revision)
    print(f"pulled; look at it with: dgm sample {where} -n 64 --out grid.png")
    return 0
