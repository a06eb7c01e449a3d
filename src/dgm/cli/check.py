"""Check the mathematical contract of a model, one line for each law, such as: the density sums to one.

dgm check vae
dgm check runs/vae
dgm check mypackage.mymodule:MyModel
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from dgm.cli import own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of `dgm models`, a run directory, or package.module:Class")
    own.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    import dgm

    if is_run := (Path(args.model) / "config.json").is_file():
        own.trust(args, args.model)
    else:
        own.model_class(args.model)  # raises an error for a wrong name
    results = []
    for result in dgm.check(dgm.load(args.model) if is_run else args.model):
        results.append(asdict(result))
        if not args.json:
            mark = {"holds": "✓", "broken": "✗", "skipped": "-"}[result.outcome]
            line = f"{mark} {result.space:<26} {result.law}: {result.detail}  ({result.seconds:.1f} s)"
            print(line, flush=True)
    held, broken, skipped = (sum(r["outcome"] == which for r in results) for which in ("holds", "broken", "skipped"))
    if args.json:
        print(json.dumps(results, indent=2))
    else:
        print(f"{held} laws hold, {broken} are broken, {skipped} are skipped")
    return 1 if broken else 0
