"""The options for a condition: a label, attributes, numbers, a text, an image, or a file of many conditions."""

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
REMEDY = "leave the condition out, or train with --conditional"


def add_arguments(parser: argparse.ArgumentParser, of: str, *, many: bool = False) -> None:
    """
    Args:
        of: The object of the condition, for the help.
        many: Whether a file may have one condition for each example.
    """
    parser.add_argument("--label", help=f"the label of {of}: its name or its number")
    files = f"; {MANY}" if many else ""
    parser.add_argument(
        "--condition",
        help=f'the condition of {of}: "smiling=1,glasses=0", numbers by name, a text, or a picture\'s path{files}',
    )


def from_arguments(args: argparse.Namespace, model: Model, most: int | None = None) -> Tensor | None:
    """The chosen condition, (1, *shape), or all conditions of a file, (N, *shape); None without a condition.

    Args:
        model: A model from `dgm.load`, with the names of the conditions in its data.
        most: The largest number of conditions.

    Raises:
        Unsupported: If the model has no condition, or a label is chosen and the condition is not a label.
        BadInput: If the condition is not in the model's space of conditions, or a file cannot be read.
        UnknownName: If the data does not have the label, attribute or word. The message has the nearest name.
    """
    if args.label is None and args.condition is None:
        return None
    if model.condition is None:
        raise Unsupported(WITHOUT, REMEDY)
    return chosen(args, model.condition, getattr(model, "names", Names()), most)


def chosen(args: argparse.Namespace, space: Space, names: Names, most: int | None = None) -> Tensor:
    """The chosen condition, or all conditions of a file, in their space, as `from_arguments`."""
    if args.label is not None and args.condition is not None:
        raise BadInput("both --label and --condition", "give one of the two")
    if args.condition is not None and is_file(args.condition, space, names):
        y = of_file(Path(args.condition), space, names)
        if most is not None and len(y) > most:
            raise BadInput(f"{args.condition} has {len(y)} conditions, expected {most}", "keep one of them")
        return y
    if args.label is not None and (space.kind, space.shape) != ("categories", ()):
        raise Unsupported(f"the condition is {space} and not a label", "give it by --condition")
    return encode(args.condition if args.label is None else args.label, space, names)[None]


def is_file(given: str, space: Space, names: Names) -> bool:
    """Whether a condition is the name of a file, by its suffix; if the condition may be a text, the file must exist."""
    from dgm.data.walk import IMAGES

    known = Path(given).suffix.lower() in (*FILES, *IMAGES)
    return known and (Path(given).is_file() or not names.words)


def of_file(path: Path, space: Space, names: Names) -> Tensor:
    if not path.is_file():
        raise BadInput(f"there is no file {path}", "check the path")
    if path.suffix.lower() == ".csv":
        return rows(path, space, names)
    return array(path, space) if path.suffix.lower() == ".npz" else picture(path, space)


def rows(path: Path, space: Space, names: Names) -> Tensor:
    """One condition for each row: its dimensions by the names of the columns, or one column of labels or texts."""
    import torch

    from dgm.data import attributes

    table = attributes.read(path)
    if not table.lines:
        raise BadInput(f"{path} has no row below its header", "give a condition a row")
    single = (not space.shape and space.kind != "record") or names.words
    if single and len(table.columns) > 1:
        wrong = f"{path} has the columns {', '.join(table.columns)}, expected one with the condition"
        raise BadInput(wrong, "keep that one")
    batch = []
    for row, line in zip(zip(*table.cells, strict=True), table.lines, strict=True):
        try:
            words = row[0] if single else dict(zip(table.columns, row, strict=True))
            batch.append(encode(words, space, names))
        except BadInput as error:
            raise BadInput(f"{path}: row {line}: {str(error).rpartition('; ')[0]}", "correct that row") from error
    return torch.stack(batch)


def array(path: Path, space: Space) -> Tensor:
    """The conditions (N, *shape) from the array condition, y or labels of a file."""
    from dgm.data import arrays

    held = arrays.unpacked(path)
    if "condition" not in held:
        wrong = f"{path} has no array 'condition', only {', '.join(held) or 'nothing'}"
        raise BadInput(wrong, "save it as numpy.savez(file, condition=…)")
    from dgm.inputs import tensor

    y = tensor(f"the conditions in {path}", held["condition"])
    return space.check(y if y.is_floating_point() == (not space.discrete) else y.to(space.dtype)).to(space.dtype)


def picture(path: Path, space: Space) -> Tensor:
    """An image, resized to the size of the condition."""
    import torch

    from dgm.data.folder import pixels

    if len(space.shape) != 3 or space.shape[0] not in (1, 3) or not space.discrete or space.kind == "tokens":
        raise BadInput(f"{path} is a picture, and this model's condition is {space}", "give such a condition")
    shades = torch.from_numpy(pixels(path, space.shape).copy())[None].double()
    return (shades / 255 * ((space.values or 0) - 1)).round().to(space.dtype)


def number_of_samples(n: int | None, y: Tensor | None, usual: int = 64) -> int:
    """The number of samples that the user sets, or the number of conditions in a file.

    Raises:
        BadInput: If both are set and they differ.
    """
    if y is None or len(y) == 1:
        return usual if n is None else n
    if n not in (None, len(y)):
        raise BadInput(f"-n {n} samples of {len(y)} conditions", "leave -n out: there is a sample for each row")
    return len(y)
