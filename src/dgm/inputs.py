"""Checks and conversions of the arguments of the public functions, with errors of one line."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.errors import BadInput

if TYPE_CHECKING:
    import torch

LONGEST = 40  # characters of a value in an error
SEEDS = 2**63 - 1  # the largest seed of torch's generators


def whole(what: str, value: Any, *, low: int | None = None) -> int:
    """``value`` as an int: any integer of Python or numpy.

    Raises:
        BadInput: If the value is not an integer, or is below ``low``. True and False are not integers here.

    Example:
        >>> whole("n", 3, low=1)
        3
    """
    try:
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or isinstance(value, bool) or (low is not None and number < low):
        wanted = "a whole number" if low is None else f"a whole number, at least {low}"
        raise BadInput(f"{what} must be {wanted}, got {brief(value)}", f"give {what} as one")
    return number


def random_seed(value: Any) -> int:
    """``value`` as a seed, from 0 to `SEEDS` as on the command line: others would give the numbers of one of these."""
    seed = whole("the seed", value, low=0)
    if seed > SEEDS:
        raise BadInput(f"the seed must be at most {SEEDS}, got {brief(value)}", "give a smaller one")
    return seed


def number(what: str, value: Any) -> float:
    """``value`` as a float: any finite real number of Python or numpy.

    Example:
        >>> number("low", 0)
        0.0
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise BadInput(f"{what} must be a finite number, got {brief(value)}", f"give {what} as one")
    return float(value)


def plain(value: Any) -> Any:
    """A numpy number converted to a Python number, also in a list or a tuple; anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    if isinstance(value, bool) or type(value) in (int, float):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def place(what: str, value: Any) -> Path:
    """``value`` as a path: a string or an object with the path protocol."""
    if not isinstance(value, (str, os.PathLike)):
        raise BadInput(f"{what} must be a path, got {brief(value)}", "give it as a text or a pathlib.Path")
    return Path(value)


def of_type(what: str, value: Any, wanted: type, remedy: str) -> None:
    if not isinstance(value, wanted):
        raise BadInput(f"{what} must be a {wanted.__name__}, got {brief(value)}", remedy)


def model_given(value: Any) -> None:
    """
    Raises:
        BadInput: If the argument is not a model.
    """
    from dgm.space import Space

    if isinstance(value, type) or not isinstance(getattr(value, "space", None), Space) or not hasattr(value, "modules"):
        remedy = "make one by dgm.create, or load one by dgm.load"
        raise BadInput(f"expected a model, got {brief(value)}", remedy)


def brief(value: Any) -> str:
    """A value as an error shows it: itself where it is short, else its type.

    Example:
        >>> brief("8"), brief([0] * 100)
        ("'8'", 'a list')
    """
    shown = "" if hasattr(value, "shape") and value.shape else repr(value)
    if shown and len(shown) <= LONGEST and shown.isprintable():
        return shown
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def how_many(n: int, noun: str) -> str:
    """A number and what is counted.

    Example:
        >>> how_many(1, "row"), how_many(1234, "row")
        ('1 row', '1,234 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def refuse_twice(what: str, names: Sequence[str]) -> None:
    """Refuses a list in which a name is there twice."""
    for k, name in enumerate(names):
        if name in names[:k]:
            raise BadInput(f"the {what} '{name}' is named twice", "name it once")


def tensor(what: str, value: Any) -> torch.Tensor:
    """A tensor unchanged; an array, a table or a nested list of numbers as a tensor, which may share its memory.

    Raises:
        BadInput: If there are values that are not numbers, or rows of different lengths.
    """
    import numpy
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            raise BadInput(f"{what} must be a dense tensor, got {value.layout}", "call to_dense on it")
        if value.is_meta:
            raise BadInput(f"{what} must be a tensor with values, got one on the device 'meta'", "give its values")
        return value
    if isinstance(value, numpy.ma.MaskedArray) and value.mask.any():
        raise BadInput(f"{what} has masked values, which an array of numbers cannot tell", "fill them, or give a table")
    try:
        array = numpy.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        array = numpy.array(None)
    if array.dtype.kind not in "buif":
        raise BadInput(f"{what} must be numbers in a tensor or an array, got {brief(value)}", "convert it")
    # torch has no wide unsigned integers that it computes with, and warns of memory that it may not write to
    wide = {"b": "bool", "u": "int64", "i": "int64", "f": "float64"}[array.dtype.kind]
    dtype = array.dtype.newbyteorder("=") if array.dtype.name in ("uint8", "float32") else wide
    return torch.from_numpy(numpy.require(array, dtype, ["C", "W"]))


def pairs(data: Any, y: Any = None, *, conditional: bool) -> tuple[Any, Any]:
    """x and y of a data set (its test split), of a split or of a torch DataLoader; any other argument is x itself.

    Args:
        conditional: Whether the conditions are used.

    Raises:
        BadInput: If the data contains conditions and others are given too, or is a tuple or a torch Dataset.
    """
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    found = getattr(data, "test", data)
    if not isinstance(data, DataLoader) and not hasattr(found, "batch"):
        x_and_y = isinstance(data, tuple) and any(hasattr(part, "shape") for part in data)
        if x_and_y or isinstance(data, TorchDataset):
            wrong = f"the data must be a tensor, a data set of dgm or a DataLoader, got {brief(data)}"
            raise BadInput(wrong, "give dgm.data.load(x, y=y), or a torch DataLoader of it")
        return data, y
    if y is not None:
        raise BadInput("conditions are given twice: the data has its own", "leave y out")
    x, y = gathered(data) if isinstance(data, DataLoader) else (found.x, found.y)
    return x, y if conditional else None


def gathered(loader: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The concatenated batches of a torch DataLoader, each of which is x, or x and y.

    Raises:
        BadInput: If a batch has another form, or the data does not fit into memory.
    """
    import torch

    from dgm.memory import available, gibibytes

    held, taken, most = [], 0, available()
    for batch in loader:
        parts = tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)
        if not (len(parts) in (1, 2) and all(isinstance(part, torch.Tensor) for part in parts)):
            raise BadInput(f"a batch of the DataLoader must be x, or x and y, got {brief(batch)}", "give tensors alone")
        taken += 2 * sum(part.nbytes for part in parts)
        if taken > most:
            raise BadInput(f"the DataLoader's batches need more than {gibibytes(most)} of memory", "give fewer")
        held.append(parts)
    if not held or len({len(parts) for parts in held}) != 1:
        raise BadInput("the DataLoader has no batches, or y in some of them alone", "look at its data set")
    x, *rest = (torch.cat(part) for part in zip(*held, strict=True))
    return x, rest[0] if rest else None
