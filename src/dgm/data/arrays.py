"""The user's own arrays: .npy, or .npz with x, optional labels y, optional splits x_train, x_validation, x_test."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset, divided, shuffled_parts
from dgm.errors import BadInput
from dgm.space import Space


def load(path: Path, *, seed: int = 0) -> Dataset:
    """Bytes become grey levels, or binary where there are only 0 and 1; other integers levels; floats real numbers.

    Raises:
        BadInput: For what is no such file, objects, missing keys, or NaN.
    """
    arrays = read(path)
    x = checked(path, arrays["x"])
    y = None if "y" not in arrays else torch.from_numpy(arrays["y"].astype(numpy.int64))
    if y is not None and len(y) != len(x):
        raise BadInput(f"{path} has {len(x)} examples and {len(y)} labels", "give one label an example")
    labels = () if y is None else tuple(map(str, range(int(y.max()) + 1)))
    parts = divided(x, y, shuffled_parts(len(x), seed))
    return Dataset(name=str(path), space=space_of(x), split=f"80 / 10 / 10 %, seed {seed}", labels=labels, **parts)


def read(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays, memory-mapped where the format allows it; objects, which would be pickles, are refused."""
    try:
        found = numpy.load(path, mmap_mode="c", allow_pickle=False)
        arrays = {"x": found} if isinstance(found, numpy.ndarray) else dict(found.items())
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(
            f"{path} cannot be read as an array: {error}", "save numbers with numpy.save or numpy.savez"
        ) from error
    if "x" not in arrays:
        raise BadInput(f"{path} has no array called 'x', only {', '.join(arrays)}", "save it as numpy.savez(file, x=…)")
    return arrays


def checked(path: Path, array: numpy.ndarray) -> Tensor:
    if array.ndim < 2 or len(array) < 10:
        wrong = f"{path} holds an array of shape {array.shape}, expected at least 10 examples of one dimension or more"
        raise BadInput(wrong, "put the examples along the first axis")
    if array.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {array.dtype}, expected numbers", "convert it before saving")
    if array.dtype.kind == "f":
        bad = numpy.argwhere(~numpy.isfinite(array))
        if len(bad):
            raise BadInput(f"{path} holds NaN or infinity at {tuple(map(int, bad[0]))}", "fill or drop those examples")
        return torch.from_numpy(array.astype(numpy.float32, copy=False))
    if array.dtype.kind in "iu" and array.dtype != numpy.uint8:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65_535:
            raise BadInput(
                f"{path} holds integers from {low} to {high}, expected levels from 0", "shift them, or save floats"
            )
        return torch.from_numpy(array.astype(numpy.uint8 if high < 256 else numpy.int64))
    return torch.from_numpy(array.astype(numpy.uint8, copy=False))


def space_of(x: Tensor) -> Space:
    shape = tuple(x.shape[1:])
    if x.is_floating_point():
        rows = x.flatten(1).double()
        loc, scale = rows.mean(0), rows.std(0)
        scale[scale < 1e-12] = 1.0
        if len(shape) == 1:
            return Space.continuous(shape, loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))
        return Space.continuous(shape, low=float(x.min()), high=float(x.max()))
    most = int(x.max())
    return (
        Space.binary(shape)
        if most <= 1
        else Space.levels(shape, 256 if most < 256 and x.dtype == torch.uint8 else most + 1)
    )
