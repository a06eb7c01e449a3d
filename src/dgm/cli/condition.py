"""A condition as a user names it: a label, attributes, numbers, a text, a picture, or a file of many conditions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dgm.condition import Names, encode
from dgm.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.protocols import Model
    from dgm.space import Space

FILES = (".csv", ".npz")
MANY = "a .csv file with a row each, or an .npz file with an array condition"
WITHOUT = "this model was trained without a condition"
REMEDY = "leave it out, or train with --conditional"


def add_arguments(parser: argparse.ArgumentParser, of: str, *, many: bool = False) -> None:
    """
    Args:
        of: What has the condition, for the help.
        many: Whether a file may give each its own.
    """
    parser.add_argument("--label", help=f"the label of {of}: its name or its number")
    files = f"; {MANY}" if many else ""
    parser.add_argument(
        "--condition",
        help=f'the condition of {of}: "smiling=1,glasses=0", numbers by name, a text, or a picture\'s path{files}',
    )


def chosen(args: argparse.Namespace, model: Model, most: int | None = None) -> Tensor | None:
    """(1, *shape), or a row each of a file of many conditions; None where no condition is named.

    Args:
        model: As `dgm.load` gives it, with the names of its data's conditions.
        most: How many conditions there may be.

    Raises:
        Unsupported: For a model without a condition, or a label where the condition is none.
        BadInput: For what is no condition of the model's, and for a file that cannot be read.
        UnknownName: For a label, an attribute or a word that the data does not have, with the nearest.
    """
    if args.label is None and args.condition is None:
        return None
    if args.label is not None and args.condition is not None:
        raise BadInput("both --label and --condition", "give one of the two")
    space: Space | None = model.condition
    if space is None:
        raise Unsupported(WITHOUT, REMEDY)
    names = getattr(model, "names", Names())
    if args.condition is not None and is_file(args.condition, space, names):
        y = of_file(Path(args.condition), space, names)
        if most is not None and len(y) > most:
            raise BadInput(f"{args.condition} has {len(y)} conditions, expected {most}", "keep one of them")
        return y
    if args.label is not None and (space.kind, space.shape) != ("categories", ()):
        raise Unsupported(f"this model's condition is {space}, and no label", "name it by --condition")
    return encode(args.condition if args.label is None else args.label, space, names)[None]


def is_file(given: str, space: Space, names: Names) -> bool:
    """Whether a condition names a file: by its ending, and because there is one where it could be a text."""
    from dgm.data.walk import IMAGES

    known = Path(given).suffix.lower() in (*FILES, *IMAGES)
    return known and (Path(given).is_file() or not names.words)


def of_file(path: Path, space: Space, names: Names) -> Tensor:
    if not path.is_file():
        raise BadInput(f"there is no file {path}", "look at the path")
    if path.suffix.lower() == ".csv":
        return rows(path, space, names)
    return array(path, space) if path.suffix.lower() == ".npz" else picture(path, space)


def rows(path: Path, space: Space, names: Names) -> Tensor:
    """A condition a row: its dimensions by the names of the columns, or a label or a text in the only column."""
    import torch

    from dgm.data import attributes

    table = attributes.read(path)
    if not table.lines:
        raise BadInput(f"{path} has no row below its header", "give a condition a row")
    single = (not space.shape and space.kind != "record") or names.words
    if single and len(table.columns) > 1:
        wrong = f"{path} has the columns {', '.join(table.columns)}, expected one with the condition"
        raise BadInput(wrong, "keep that one")
    found = []
    for row, line in zip(zip(*table.cells, strict=True), table.lines, strict=True):
        try:
            given = row[0] if single else dict(zip(table.columns, row, strict=True))
            found.append(encode(given, space, names))
        except BadInput as error:
            raise BadInput(f"{path}: row {line}: {str(error).rpartition('; ')[0]}", "mend that row") from error
    return torch.stack(found)


def array(path: Path, space: Space) -> Tensor:
    """(N, *shape) of the array that is called condition, y or labels."""
    from dgm.data import arrays

    held = arrays.unpacked(path)
    if "condition" not in held:
        wrong = f"{path} has no array 'condition', only {', '.join(held) or 'nothing'}"
        raise BadInput(wrong, "save it as numpy.savez(file, condition=…)")
    from dgm.inputs import tensor

    y = tensor(f"the conditions in {path}", held["condition"])
    return space.check(y if y.is_floating_point() == (not space.discrete) else y.to(space.dtype)).to(space.dtype)


def picture(path: Path, space: Space) -> Tensor:
    """A picture at the condition's size."""
    import torch

    from dgm.data.folder import pixels

    if len(space.shape) != 3 or space.shape[0] not in (1, 3) or not space.discrete or space.kind == "tokens":
        raise BadInput(f"{path} is a picture, and this model's condition is {space}", "give such a condition")
    shades = torch.from_numpy(pixels(path, space.shape).copy())[None].double()
    return (shades / 255 * ((space.values or 0) - 1)).round().to(space.dtype)


def number_of_samples(n: int | None, y: Tensor | None, usual: int = 64) -> int:
    """As many as were asked for, or as a file has conditions.

    Raises:
        BadInput: Where the two differ.
    """
    if y is None or len(y) == 1:
        return usual if n is None else n
    if n not in (None, len(y)):
        raise BadInput(f"-n {n} samples of {len(y)} conditions", "leave -n out: there is a sample for each row")
    return len(y)
