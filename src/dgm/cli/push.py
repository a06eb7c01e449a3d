"""Upload a finished run to the Hugging Face hub, with a model card that has the results of `dgm evaluate`.

dgm push runs/vae ada/digits-vae
dgm push runs/vae ada/digits-vae --private
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("name", help="the repository, as user/name")
    parser.add_argument("--private", action="store_true", help="make the repository private")


def run(args: argparse.Namespace) -> int:
    import dgm

    address = dgm.push(args.run, args.name, private=args.private)
    print(f"pushed; load it with: dgm.load({address!r})")
    return 0
