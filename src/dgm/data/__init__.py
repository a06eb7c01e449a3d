"""Data sets and the user's own data, as tensors of one `Space`.

>>> load("digits").space.shape
(1, 8, 8)
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from dgm.data import memory
from dgm.data.dataset import Dataset, Split, order
from dgm.data.table import SETS, Spec, folder_of, roots
from dgm.documents import misfit
from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief, random_seed

IMAGES, SOUND, MEMORY = (
    ("seed", "size", "grey", "palette"),
    ("seed", "seconds", "rate"),
    ("seed", "y", "types", "condition_columns"),
)
TABLES = ("seed", "types", "condition_columns")
LAZY = ("seed", "size", "grey")
FILES = {
    ".npy": ("arrays", ("seed",)),
    ".npz": ("arrays", ("seed",)),
    ".csv": ("tables", TABLES),
    ".parquet": ("tables", TABLES),
    ".txt": ("text", ("context", "bytes")),
    ".tar": ("tars", LAZY),
}

__all__ = ["SETS", "Dataset", "Split", "load", "order"]


def load(name: str | Path | Any, *, root: str | Path | None = None, **options: Any) -> Dataset:
    """Loads a named data set, or the user's own data from a path or from memory.

    Args:
        name: A name that `dgm data` lists; or the path of a folder of images, of .wav files or of .tar files, of a
            folder that Hugging Face `datasets` saved, or of a .npy, .npz, .csv, .parquet, .txt or .tar file; or an
            array or tensor (N, ...), or a table of pandas, polars or pyarrow. A run cannot load data from memory again.
        root: The first folder in which named sets are searched. The folders of DGM_DATA and the user's cache follow. A
            set that is in none of them is downloaded into the cache.
        options: ``size``, ``grey`` and ``palette`` for images, ``seconds`` and ``rate`` for sound, ``context`` and
            ``bytes`` for text; ``types``, the types of a table's columns, such as ``"age=integer,zip=category"``, which
            replace the inferred types; ``condition_columns``, the columns of a table that are the condition of the
            other columns; ``seed`` of the split of the user's own data; ``y``, (N, ...) the conditions of an array's
            examples.

    Raises:
        UnknownName: If the name is neither a known name nor a path. The message has the nearest known name.
        BadInput: If a file cannot be read. The message has the file, and the row and the column where they are known.

    Example:
        >>> load([[k * k, k / 2] for k in range(20)]).space.shape
        (2,)
    """
    if "seed" in options:
        options["seed"] = random_seed(options["seed"])
    if not isinstance(name, (str, os.PathLike)):
        return from_memory(name, options)
    name = os.fspath(name)
    if not name:  # as a path it would be the working directory
        raise BadInput("the name of the data is empty", "give a name, which `dgm data` lists, or a path")
    if name in SETS:
        for option in options:
            if option not in SETS[name].options:
                raise UnknownName.of(f"option of the data set {name}", option, ["root", *SETS[name].options])
        return named(name, SETS[name], root, options)
    if name in (memory.ARRAY, memory.TABLE):
        raise BadInput(
            f"the data was an {name}, of which a run keeps no copy", "save it as a file to use the run's data"
        )
    path = Path(name).expanduser()
    if not path.exists():
        if path.suffix or path.is_absolute() or name.startswith("."):
            raise BadInput(f"there is no file or folder {name}", "check the path; `dgm data` lists the named sets")
        raise UnknownName.of("data set, file or folder", name, SETS)
    return from_path(path.resolve(), options)


def from_memory(data: Any, options: dict[str, Any]) -> Dataset:
    """Loads data that is in memory already."""
    if not (hasattr(data, "columns") or hasattr(data, "__array__") or isinstance(data, (list, tuple))):
        wrong = f"data must be a name, a path, an array or a table, got {brief(data)}"
        raise BadInput(wrong, "give one of them; `dgm data` lists the names")
    for option in options:
        if option not in MEMORY:
            raise UnknownName.of("option of data in memory", option, MEMORY)
    return memory.load(data, **options)


def named(name: str, spec: Spec, root: str | Path | None, options: dict[str, Any]) -> Dataset:
    module, _, function = spec.target.partition(":")
    make, (_, _, part) = getattr(importlib.import_module(module), function), name.partition("/")
    if not spec.folder:
        return replace(make(part), name=name)
    if spec.source:
        folder = folder_of(spec, root)
        if folder is None:
            raise BadInput(f"{name} is not here", f"copy {spec.source} to {roots(root)[0] / spec.folder}")
    else:
        from dgm.data.download import fetch

        folder = fetch(name, spec, root)
    check_types(name, make, options)
    return replace(make(folder, *([part] if part else []), **options), name=name, options=options)


def check_types(name: str, make: Callable[..., Dataset], options: dict[str, Any]) -> None:
    """Checks the name and the type of each option before the loader is called: options may come from a file."""
    hints = get_type_hints(make)
    for option, value in options.items():
        if wrong := misfit(value, hints[option], option):
            raise BadInput(f"{name}: {wrong}", f"give another --{option}")


def from_path(path: Path, options: dict[str, Any]) -> Dataset:
    """Loads the user's own data with the loader for this kind of file or folder."""
    from dgm.data import arrow, folder, sound, tars

    make: Callable[..., Dataset]
    known: tuple[str, ...]
    if path.is_dir():
        if arrow.is_saved(path) or any(path.glob("*.tar")):
            make, known = arrow.load if arrow.is_saved(path) else tars.load, LAZY
        else:
            make, known = (sound.load, SOUND) if sound.recordings(path) else (folder.load, IMAGES)
    elif path.suffix.lower() not in FILES:
        wrong = f"{path.name}: data cannot be read from a '{path.suffix}' file"
        raise BadInput(wrong, f"give a folder of images or of .wav files, or a file ending in {', '.join(FILES)}")
    else:
        module, known = FILES[path.suffix.lower()]
        make = importlib.import_module(f"dgm.data.{module}").load
    for option in options:
        if option not in known:
            raise UnknownName.of(f"option of {path.name}", option, known)
    check_types(path.name, make, options)
    return replace(make(path, **options), name=str(path), options=options)
