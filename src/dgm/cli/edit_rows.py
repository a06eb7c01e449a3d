"""`dgm edit impute`: draws of the missing values of a table's rows, and the given values of `dgm sample --where`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.cli import condition, out, own
from dgm.cli.edit_task import Task
from dgm.cli.terminal import Progress
from dgm.cli.values import seed, whole
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.inputs import how_many

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.data.rows import Rows
    from dgm.edit import Imputed
    from dgm.protocols import Model
    from dgm.space import Space

FEW = 5  # draws: weights that are worth fewer make a rough draw


def imputing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it, of a table")
    parser.add_argument("--data", required=True, help="a .csv or .parquet file with missing values")
    parser.add_argument(
        "--draws", type=whole(1, 100_000), default=1, help="draws for each row, one below the other (1)"
    )
    condition.add_arguments(parser, "all rows", many=True)
    parser.add_argument(
        "--seed", type=seed(), default=0, help="random seed; a draw depends on the seed and on its own row alone (0)"
    )
    parser.add_argument("--out", required=True, help="the .csv file to write: the same table, completed")
    own.add_trust(parser)


def impute(args: argparse.Namespace) -> int:
    path = out.new(args.out)
    if path.suffix != ".csv":
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .csv")
    import dgm
    from dgm.data import rows
    from dgm.data.columns import of_run
    from dgm.files import replacing
    from dgm.runs import Run

    own.trust(args, args.run)
    model, about = dgm.load(args.run), Run(args.run).config["data"]
    refuse_other_data(model.space, about)
    table = rows.read(Path(args.data))
    columns = of_run(about, model.space)
    x = rows.numbers(table, columns, model.space, others=rows.beside(about))
    y = conditions(args, model, table, about)
    with Progress(f"imputing {how_many(len(x), 'row')}") as progress:
        found = dgm.edit.impute(model, x, y, n=args.draws, seed=args.seed, progress=progress.update)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        rows.write_completed(table, found.x, columns, temporary)
    holes = int(x.isnan().sum())
    times = f", {args.draws} draws of each" if args.draws > 1 else ""
    print(f"{how_many(holes, 'value')} imputed in {how_many(len(x), 'row')}{times}, in {path}")
    say(found)
    return 0


def conditions(args: argparse.Namespace, model: Model, table: Rows, about: Mapping[str, Any]) -> Tensor | None:
    """The condition of each row: that of the options, or else that in the columns of the table."""
    import torch

    from dgm.condition import Names, encode
    from dgm.data.tables import names_in

    y = condition.from_arguments(args, model)
    if y is not None:
        return y.expand(len(table.cells), *y.shape[1:]) if len(y) == 1 else y
    names = names_in(str(about.get("options", {}).get("condition_columns", "")))
    if model.condition is None or not names or not set(names) <= set(table.names):
        return None
    of_space = getattr(model, "names", Names())
    single = not model.condition.shape and model.condition.kind != "record"
    places, found = [table.names.index(name) for name in names], []
    for line, row in zip(table.lines, table.cells, strict=True):
        words = {name: row[place] for name, place in zip(names, places, strict=True)}
        try:
            found.append(encode(words[names[0]] if single else words, model.condition, of_space))
        except (BadInput, UnknownName) as error:
            raise type(error)(f"{table.path}, row {line}: {error.wrong}", error.remedy) from error
    return torch.stack(found)


def say(found: Imputed) -> None:
    """Prints how the values were drawn, and warns of weights that few draws have."""
    print(f"drawn {found.method}")
    worth = found.effective[found.effective.isfinite()]
    if not len(worth):
        return
    print(f"effective number of draws, of {found.draws}: median {worth.median():.3g}, smallest {worth.min():.3g}")
    if rough := int((worth < FEW).sum()):
        print(f"dgm: {rough:,} draws are inaccurate: their effective number of draws is below {FEW}", file=sys.stderr)


def refuse_other_data(space: Space, about: Mapping[str, Any]) -> None:
    if not about.get("columns"):
        raise Unsupported(f"rows belong to a table, and this run is of {space}", "train on a .csv or .parquet file")


def where(args: argparse.Namespace, model: Model, about: Mapping[str, Any], y: Tensor | None) -> Tensor:
    """Samples of the other columns given the columns that ``--where`` names."""
    import torch

    from dgm import edit
    from dgm.data import rows
    from dgm.data.columns import of_run

    refuse_other_data(model.space, about)
    x, given = rows.of_words(args.where, of_run(about, model.space), model.space)
    n = args.n if y is None or len(y) == 1 else 1
    x = x.to(model.space.dtype).expand(1 if n > 1 or y is None else len(y), -1)
    with Progress(f"sampling {args.n}") as progress:
        how: dict[str, Any] = {"n": n, "seed": args.seed, "present": False, "progress": progress.update}
        found = edit.impute(model, x, y if y is None or len(y) > 1 else y[0], observed=given, **how)
    say(found)
    return torch.flatten(found.x, 0, 1)


TASKS: Mapping[str, Task] = {
    "impute": Task("Draw the missing values of a table's rows.", imputing_options, rows=impute),
}
