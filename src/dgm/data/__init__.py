"""Data sets and the user's own data, as tensors of one `Space`.

>>> load("digits").space.shape
(1, 8, 8)
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from dgm.data.dataset import Dataset, Split, order
from dgm.data.table import SETS, Spec
from dgm.errors import BadInput, UnknownName

__all__ = ["Dataset", "Split", "load", "order"]


def load(name: str, *, root: str | Path | None = None, **options: Any) -> Dataset:
    """A data set by name, or the user's own by path.

    Args:
        name: One of `dgm data`, or the path of a folder of images, a .npy, .npz, .csv or .parquet file.
        root: Where named sets are looked for first; then come DGM_DATA and the user's cache, into which what is
            nowhere is downloaded.
        options: ``size`` and ``grey`` for a folder of images; ``seed`` of the split for any data of one's own.

    Raises:
        UnknownName: For neither a known name nor a path, with the nearest name.
        BadInput: For a file that cannot be read, with the file, and the row and column where there is one.
    """
    if name in SETS:
        for option in options:
            raise UnknownName.of(f"option of the data set {name}", option, ["root"])
        return named(name, SETS[name], root)
    path = Path(name).expanduser()
    if not path.exists():
        if path.suffix or path.is_absolute() or name.startswith("."):
            raise BadInput(f"there is no file or folder {name}", "look at the path; `dgm data` lists the named sets")
        raise UnknownName.of("data set", name, SETS)
    return own(path.resolve(), options)


def named(name: str, spec: Spec, root: str | Path | None) -> Dataset:
    module, _, function = spec.target.partition(":")
    make = getattr(importlib.import_module(module), function)
    if not spec.files:
        return replace(make(name.partition("/")[2]), name=name)
    from dgm.data.download import fetch

    return replace(make(fetch(name, spec, root)), name=name)


def own(path: Path, options: dict[str, Any]) -> Dataset:
    """The user's own data, by what the path is."""
    from dgm.data import arrays, folder, tables

    loaders = {".npy": arrays.load, ".npz": arrays.load, ".csv": tables.load, ".parquet": tables.load}
    make = folder.load if path.is_dir() else loaders.get(path.suffix.lower())
    if make is None:
        wrong = f"{path.name}: data cannot be read from a '{path.suffix}' file"
        raise BadInput(wrong, f"give a folder of images or a file ending in {', '.join(loaders)}")
    known = ("seed", "size", "grey") if path.is_dir() else ("seed",)
    for option in options:
        if option not in known:
            raise UnknownName.of(f"option of {path.name}", option, known)
    return replace(make(path, **options), name=str(path), options=options)
