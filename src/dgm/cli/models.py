"""List the models by family, or show one model's settings. --json includes the papers.

dgm models
dgm models flow          the models of one family
dgm models vae
dgm models --json
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from dgm.cli.parser import option_of
from dgm.cli.terminal import Stdout
from dgm.models.table import MODELS, entry_point_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a model whose settings are shown, or a family whose models are listed")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    of_family = [row for row in listed() if args.name and row["family"] == args.name]
    is_model = args.name in MODELS or bool(args.name and not of_family)  # a family may have the name of a model
    rows = settings_of(args.name) if is_model else of_family or listed()
    if args.json:
        import json

        print(json.dumps(rows, indent=2))
        return 0
    if is_model:
        import inspect

        from dgm.cli.own import model_class

        print(inspect.cleandoc(model_class(args.name).__doc__ or "").partition("\n")[0])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        ("setting", "default", "range", "meaning") if is_model else ("name", "family", "likelihood", "summary")
    ):
        table.add_column(column, no_wrap=column in ("name", "setting", "family", "likelihood"))
    for row in rows:
        table.add_row(*(str(row[str(column.header)]).replace("lower_bound", "lower bound") for column in table.columns))
    Stdout().print(table)
    if not is_model:
        print("Likelihoods are those of images. `dgm models NAME` shows the settings of a model.")
    elif of_family:
        print(f"The family {args.name} has the models {', '.join(row['name'] for row in of_family)}.")
    return 0


def listed() -> list[dict[str, Any]]:
    """One row for each model. ``likelihood`` is the kind of its likelihood on images."""
    ours = [
        {"name": name, "family": s.family, "likelihood": s.likelihood, "summary": s.summary, "paper": s.paper}
        for name, s in MODELS.items()
    ]
    others = [
        {"name": name, "family": "", "likelihood": "", "summary": f"from an installed package: {target}", "paper": ""}
        for name, target in entry_point_models().items()
    ]
    return ours + others


def settings_of(name: str) -> list[dict[str, Any]]:
    """One row for each setting of the model's Config."""
    import dataclasses

    from dgm.cli.own import model_class

    rows = []
    cls: type[Any] = model_class(name)
    for field in dataclasses.fields(cls.Config):
        low, high = field.metadata.get("low"), field.metadata.get("high")
        bounds = f"{'' if low is None else low} … {'' if high is None else high}" if (low, high) != (None, None) else ""
        text = field.metadata.get("help", "")
        option = option_of(f"model.{field.name}")
        rows.append({"setting": option, "default": field.default, "range": bounds, "meaning": text})
    return rows
