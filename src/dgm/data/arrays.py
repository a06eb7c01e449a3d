"""The user's own arrays: .npy, or .npz with x and an optional condition, for all examples or for each split.

Other common names are accepted too: X, images or data for x; y, labels or targets for the condition; valid or val for
validation; and the name of a split alone for its x. Files of scikit-learn, Keras and MedMNIST are therefore read
without conversion. Of several conditions the one of the name ``condition`` is taken; any other array under two names is
refused.
"""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.condition import Names
from dgm.data import attributes
from dgm.data.dataset import Conditions, Dataset, consecutive, order, shuffled
from dgm.data.storage import stamp, stored
from dgm.errors import BadInput
from dgm.inputs import how_many
from dgm.memory import refuse_a_bomb
from dgm.space import Space

PARTS = ("train", "validation", "test")
LETTERS = dict.fromkeys(("x", "images", "data"), "x")
LETTERS |= dict.fromkeys(("condition", "y", "labels", "targets", "target"), "condition")
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
MOST_LEVELS = 65_536
BLOCK_BYTES = 1 << 26
# the errors of numpy and zipfile for a damaged file or another format; MemoryError for a false shape in the header
UNREADABLE: tuple[type[Exception], ...] = (ValueError, OSError, EOFError, LookupError, TypeError, RuntimeError)
UNREADABLE += (zipfile.BadZipFile, zlib.error, struct.error, MemoryError, OverflowError, SyntaxError, RuntimeWarning)


def load(path: Path, *, seed: int = 0) -> Dataset:
    """Loads an array file. The type of the array decides the space.

    Bytes become grey levels, or binary values if all are 0 or 1. Other integers become levels, and floats real numbers.
    Arrays (N, H, W) and (N, H, W, 3) become images (1, H, W) and (3, H, W). If there are x_train and x_test but no
    x_validation, a seeded tenth of x_train is the validation split.

    Raises:
        BadInput: If the file has another format, holds objects or NaN, or lacks a key, or a column of real numbers
            never changes.
    """
    return arranged(path, read(path), seed, stamp(path, [path], seed))


def arranged(path: Path, arrays: dict[str, numpy.ndarray], seed: int, stamp: str) -> Dataset:
    """Arrays from a file or from memory as a data set.

    Args:
        path: The source of the arrays in messages of errors.
        stamp: The name of the arrays in the cache; other numbers need another name.
    """
    source = channels_first(joined(path, arrays, "x"))
    low, high = limits(path, source)
    rows, sizes, split = arrangement(path, arrays, seed)
    dtype = "float32" if source.dtype.kind == "f" else "uint8" if high < 256 else "int64"

    def fill(out: numpy.ndarray) -> None:
        for run in runs(out):
            out[run] = source[rows[run].numpy()]

    x = stored(source.shape, dtype, fill, stamp)
    if dtype == "float32" and x.ndim == 2:
        refuse_constant(path, x)
    conditioning = conditions(path, arrays, rows, sizes["train"])
    parts = consecutive(x, conditioning, sizes)
    space = continuous(parts["train"].x, low, high) if dtype == "float32" else discrete(source, int(high))
    return Dataset(name=str(path), space=space, split=split, **parts)


def read(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a file that holds examples."""
    arrays = unpacked(path)
    if "x" not in arrays and not {"x_train", "x_test"} <= arrays.keys():
        wrong = f"{path} has neither 'x' nor 'x_train' and 'x_test', only {', '.join(arrays) or 'nothing'}"
        raise BadInput(wrong, "save it as numpy.savez(file, x=…)")
    of_splits = [f"{letter}_{part}" for letter in ("x", "condition") for part in PARTS]
    whole, parts = [[name for name in names if name in arrays] for names in (("x", "condition"), of_splits)]
    if whole and parts:
        wrong = f"{path} holds '{whole[0]}', of all examples, and '{parts[0]}', of one split"
        raise BadInput(wrong, "keep the arrays of all examples, or those of the splits")
    return arrays


def unpacked(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays, memory-mapped where the format allows it. Arrays of objects are refused: they are pickles."""
    try:
        with warnings.catch_warnings(action="error", category=RuntimeWarning):  # sizes that overflow
            file = numpy.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(file, numpy.ndarray):
            return {"x": file}
        with file:
            unpacked = sum(member.file_size for member in file.zip.infolist())
            refuse_a_bomb(path, unpacked, "save it by numpy.save as .npy, which is not unpacked")
            return renamed(path, dict(file.items()))
    except UNREADABLE as error:
        wrong = f"{path} cannot be read as an array: {error}"
        raise BadInput(wrong, "save numbers with numpy.save or numpy.savez") from error


def renamed(path: Path, arrays: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """The arrays under dgm's names. One of another name keeps it, and so do labels beside a ``condition``."""
    keys: dict[str, str] = {}
    for key in arrays:
        name = our_name(key)
        if name.startswith("condition") and name in arrays:
            name = key
        if name in keys:
            wrong = f"{path} holds '{name}' under two names, '{keys[name]}' and '{key}'"
            raise BadInput(wrong, "keep one of the two")
        keys[name] = key
    return {name: arrays[key] for name, key in keys.items()}


def our_name(key: str) -> str:
    """dgm's name for an array of an .npz file; the key itself if it is neither x nor a condition, nor one of a split.

    Example:
        >>> [our_name(key) for key in ("X", "val_labels", "test", "features_train")]
        ['x', 'condition_validation', 'x_test', 'features_train']
    """
    words = key.lower().split("_")
    letters = [LETTERS[word] for word in words if word in LETTERS]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    if len(letters) > 1 or len(splits) > 1 or len(letters) + len(splits) < len(words):
        return key
    return "_".join([*(letters or ["x"]), *splits])


def given(arrays: dict[str, numpy.ndarray], letter: str) -> list[str]:
    """The keys of all arrays of x, or of all arrays of conditions, in the order of the splits."""
    names = [letter] if "x" in arrays else [f"{letter}_{part}" for part in PARTS]
    return [name for name in names if name in arrays]


def joined(path: Path, arrays: dict[str, numpy.ndarray], letter: str) -> numpy.ndarray:
    names = given(arrays, letter)
    shapes = {arrays[name].shape[1:] for name in names}
    if len(shapes) > 1:
        raise BadInput(f"{path}: {', '.join(names)} differ in shape", "give examples of one shape")
    whole = arrays[names[0]] if len(names) == 1 else numpy.concatenate([arrays[name] for name in names])
    if letter == "x" and (whole.ndim < 2 or len(whole) < 10):
        wrong = f"{path} holds an array of shape {whole.shape}, expected at least 10 examples of one dimension or more"
        raise BadInput(wrong, "put the examples along the first axis")
    return whole


def channels_first(array: numpy.ndarray) -> numpy.ndarray:
    if array.ndim == 3:
        return array[:, None]
    last = array.ndim == 4 and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3)
    return numpy.moveaxis(array, -1, 1) if last else array


def runs(array: numpy.ndarray) -> Iterator[slice]:
    """Slices of the first axis, of about 64 MiB each."""
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    return (slice(start, start + step) for start in range(0, len(array), step))


def limits(path: Path, array: numpy.ndarray) -> tuple[float, float]:
    """The smallest and the largest value, after a check that dgm can represent all values."""
    if array.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {array.dtype}, expected numbers", "convert it before saving")
    low, high = numpy.inf, -numpy.inf
    for run in runs(array):
        block = array[run] if array.dtype.kind != "f" else singles(path, array[run], run.start)
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    if array.dtype.kind in "iu" and (low < 0 or high >= MOST_LEVELS):
        wrong = f"{path} holds integers from {low:.0f} to {high:.0f}, expected levels from 0 to {MOST_LEVELS - 1}"
        raise BadInput(wrong, "shift them, or save floats")
    return low, high


def singles(path: Path, block: numpy.ndarray, start: int) -> numpy.ndarray:
    """The block as float32, in which the data is stored, so that the limits are those of the stored numbers."""
    with numpy.errstate(over="ignore"):
        block = block.astype(numpy.float32, copy=False)
    bad = numpy.argwhere(~numpy.isfinite(block))
    if len(bad):
        place = tuple(int(k) for k in (bad[0][0] + start, *bad[0][1:]))
        raise BadInput(f"{path} holds NaN or infinity at {place}", "fill or drop those examples")
    return block


def arrangement(path: Path, arrays: dict[str, numpy.ndarray], seed: int) -> tuple[Tensor, dict[str, int], str]:
    """The order of all examples, the sizes of the consecutive splits in this order, and a description of the split."""
    if "x" in arrays:
        return *shuffled(len(arrays["x"]), seed), f"80 / 10 / 10 %, seed {seed}"
    sizes = {part: len(arrays[f"x_{part}"]) for part in PARTS if f"x_{part}" in arrays}
    rows = torch.arange(sum(sizes.values()))
    if min(sizes.values()) == 0 or sizes["train"] < 10:
        raise BadInput(f"{path} has splits of {sizes}", "give at least 10 examples to train on and no empty split")
    if "validation" in sizes:
        return rows, sizes, "as given in the file"
    rows[: sizes["train"]] = order(sizes["train"], seed, 0)
    held_out = sizes["train"] // 10
    sizes = {"train": sizes["train"] - held_out, "validation": held_out, "test": sizes["test"]}
    return rows, sizes, f"as given in the file; a tenth of x_train is the validation split, seed {seed}"


def conditions(path: Path, arrays: dict[str, numpy.ndarray], rows: Tensor, train: int) -> Conditions | None:
    """The condition of each example in the order of ``rows``, of which the first ``train`` are the training split.

    One integer, boolean or word for each example is a label. If there are several values for each example, values of 0
    and 1 are attributes, bytes are grey levels, other integers are tokens, floats are real numbers, and texts are
    tokens, one for each word.
    """
    names = given(arrays, "condition")
    if not names:
        return None
    y = joined(path, arrays, "condition")
    if len(y) != len(rows):
        wrong = f"{path} has {how_many(len(rows), 'example')} and {how_many(len(y), 'condition')} ({', '.join(names)})"
        raise BadInput(wrong, "give one an example")
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind != "f":
        y = y[:, 0]
    if y.dtype.kind not in "buifU" or (y.dtype.kind == "U" and y.ndim > 1):
        wrong = f"{path} has conditions of type {y.dtype} and shape {y.shape}, expected numbers or a text an example"
        raise BadInput(wrong, "convert them before saving")
    y = y[rows.numpy()]
    if y.dtype.kind == "U":
        lines = [int(row) for row in rows]
        return attributes.inferred(attributes.Rows(path, ["label"], [y.tolist()], lines), range(train))
    return labels(y) if y.ndim == 1 and y.dtype.kind != "f" else values(path, y, train)


def labels(y: numpy.ndarray) -> Conditions:
    """Labels as numbers from 0, and their names: the sorted distinct values of the file."""
    names, numbers = numpy.unique(y, return_inverse=True)
    return Conditions.of_labels(torch.from_numpy(numbers.astype(numpy.int64)), list(map(str, names)))


def values(path: Path, y: numpy.ndarray, train: int) -> Conditions:
    """A vector, an image or a sequence for each example."""
    y = channels_first(y) if y.dtype.kind == "f" or y.dtype == numpy.uint8 else y
    low, high = limits(path, y)
    if y.dtype.kind == "f":
        real = torch.from_numpy(y.astype(numpy.float32))
        return Conditions(continuous(real[:train], low, high), real, Names())
    if high <= 1:
        return Conditions(Space.binary(y.shape[1:]), torch.from_numpy(y.astype(numpy.uint8)), Names())
    if y.dtype == numpy.uint8:
        return Conditions(Space.levels(y.shape[1:], 256), torch.from_numpy(y), Names())
    return Conditions(Space.tokens(y.shape[1:], int(high) + 1), torch.from_numpy(y.astype(numpy.int64)), Names())


def refuse_constant(path: Path, x: Tensor) -> None:
    """
    Raises:
        BadInput: If a column of real numbers never changes: its density has no bound.
    """
    constant = torch.ones(x.shape[1], dtype=torch.bool)
    for part in x.split(1 << 16):
        constant &= (part == x[0]).all(0)
        if not constant.any():
            return
    k = int(constant.nonzero()[0])
    raise BadInput(f"{path}: column {k} of x never changes, it is {float(x[0, k]):g} in every row", "leave it out")


def discrete(source: numpy.ndarray, high: int) -> Space:
    shape = source.shape[1:]
    if high <= 1:
        return Space.binary(shape)
    return Space.levels(shape, 256 if source.dtype == numpy.uint8 else high + 1)


def continuous(train: Tensor, low: float, high: float) -> Space:
    """The space of continuous conditions: vectors are standardised by the moments of the training split, images have
    bounds.
    """
    if train.ndim > 2:
        return Space.continuous(tuple(train.shape[1:]), low=low, high=high)
    loc = train.mean(0, dtype=torch.float64)
    squared = sum((part.double() - loc).square().sum(0) for part in train.split(1 << 16))
    scale = (squared / (len(train) - 1)) ** 0.5
    scale = torch.where(scale > 1e-12 * loc.abs(), scale, 1.0)
    loc, scale = loc.reshape(-1), scale.reshape(-1)
    return Space.continuous(tuple(train.shape[1:]), loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))
