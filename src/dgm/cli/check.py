"""Run the mathematical contract on a model: one line a law.

dgm check vae
dgm check runs/vae
dgm check mypackage.mymodule:MyModel
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dgm.cli import own
from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.contracts import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of `dgm models`, a run directory, or package.module:Class")
    own.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if is_run(args.model):
        own.trust(args, args.model)
    results = []
    for space, result in checked(args.model):
        results.append({"space": space, **asdict(result)})
        if not args.json:
            mark = {"holds": "✓", "broken": "✗", "skipped": "-"}[result.outcome]
            print(f"{mark} {space:<26} {result.law}: {result.detail}  ({result.seconds:.1f} s)", flush=True)
    if not results:
        raise BadInput(f"{args.model} takes none of the small spaces that laws are checked on", "see docs/own-model.md")
    held, broken, skipped = (sum(r["outcome"] == which for r in results) for which in ("holds", "broken", "skipped"))
    if args.json:
        print(json.dumps(results, indent=2))
    else:
        print(f"{held} laws hold, {broken} are broken, {skipped} are skipped")
    return 1 if broken else 0


def is_run(name: str) -> bool:
    return (Path(name) / "config.json").is_file()


def checked(name: str) -> Iterator[tuple[str, Result]]:
    """A trained run on its own space; anything else on every small space that it takes."""
    from dgm import contracts

    if is_run(name):
        from dgm.runs import load

        model = load(name)
        for result in contracts.check(model):
            yield str(model.space), result
        return
    own.model_class(name)  # says what is wrong with the name
    for space, model in contracts.small_models(name):
        for result in contracts.check(model):
            yield str(space), result
