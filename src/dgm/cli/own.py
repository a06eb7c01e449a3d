"""The user's own model classes, importable from the working directory if the command line names or trusts them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dgm import registry

if TYPE_CHECKING:
    from dgm.protocols import Model


def model_class(name: str) -> type[Model]:
    """The class that the user names. Only for ``package.module:Class``, the working directory is on Python's path."""
    if registry.is_own(name) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return registry.model_class(name)


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true", help="import the custom model class of the run")


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="path of the run's data, if it is your own")


def trust(args: argparse.Namespace, *runs: str | Path) -> None:
    """Imports the class that each run names, if --trust is set."""
    from dgm.runs import Run

    for path in runs if args.trust else ():
        for name in registry.names_in(Run(path).config["model"]):
            if registry.is_own(name):
                model_class(name)
