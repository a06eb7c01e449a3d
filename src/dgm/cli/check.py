"""Run the mathematical contract on a model: one line a law.

dgm check vae
dgm check runs/vae
dgm check mypackage.mymodule:MyModel
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.contracts import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model of `dgm models`, a run directory, or package.module:Class")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    sys.path.insert(0, str(Path.cwd()))  # a module of one's own lies where one stands
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


def checked(name: str) -> Iterator[tuple[str, Result]]:
    """A trained run on its own space; anything else on every small space that it takes."""
    from dgm import contracts

    if (Path(name) / "config.json").is_file():
        from dgm.runs import load

        model = load(name)
        for result in contracts.check(model):
            yield str(model.space), result
        return
    from dgm.registry import model_class

    model_class(name)  # says what is wrong with the name
    for space, model in contracts.small_models(name):
        for result in contracts.check(model):
            yield str(space), result
