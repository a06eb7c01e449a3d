"""Images and labels of a data set that Hugging Face `datasets` saved: memory-mapped Arrow files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset
from dgm.data.lazy import Encoded, dataset, drawn_parts, shape_of
from dgm.errors import BadInput, MissingExtra, in_one_line
from dgm.inputs import how_many

MARKS = ("dataset_dict.json", "dataset_info.json")  # files in each folder that `datasets` saved
SPLITS = ("train", "validation", "test")


def load(path: Path, *, size: int | None = None, grey: bool = False, seed: int = 0) -> Dataset:
    """Images of 256 levels, as `dgm.data.folder` loads them. A thousand of the images decide the shape.

    The first column of the type ``Image`` is the image, the first ``ClassLabel`` the label. If the data set has the
    splits train, validation and test, they are used; otherwise the splits are drawn with the seed.

    Raises:
        BadInput: If the folder cannot be read, has no images, or refers to images outside the folder.
        MissingExtra: If `datasets` is not installed.
    """
    saved = read_splits(path)
    own = {name: saved[name] for name in SPLITS if name in saved}
    if len(own) < len(SPLITS):
        own = saved
    tables = list(own.values())
    image, label = columns(tables[0].features, path)
    starts = numpy.cumsum([0, *map(len, tables)])

    def read(row: int) -> Encoded:
        k = int(numpy.searchsorted(starts, row, side="right")) - 1
        content = tables[k][row - int(starts[k])][image]["bytes"]
        if content is None:
            raise BadInput(f"{path}: the image of row {row} lies in a file elsewhere", "save the data set with it")
        return Encoded(content, f"{path}: the image of row {row}")

    n = int(starts[-1])
    if n < 10:
        raise BadInput(f"{path} holds {how_many(n, 'image')}, expected at least 10", "give more")
    tables = [table.select_columns([image]).cast_column(image, undecoded()) for table in tables]
    y = None if label is None else torch.cat([labels(table, label, path) for table in own.values()])
    names = () if label is None else tuple(next(iter(own.values())).features[label].names)
    if len(own) == len(SPLITS) and set(own) == set(SPLITS):
        ends = starts.tolist()
        parts = {name: torch.arange(ends[k], ends[k + 1]) for k, name in enumerate(own)}
        split = "its own"
    else:
        parts, split = drawn_parts(n, seed), f"80 / 10 / 10 %, seed {seed}"
    return dataset(str(path), read, parts, shape_of(read, n, size, grey=grey), y, names, split=split)


def is_saved(path: Path) -> bool:
    return any((path / mark).is_file() for mark in MARKS)


def read_splits(path: Path) -> dict[str, Any]:
    """The table of each split by its name; no rows are read yet."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra.of("a data set of Arrow files", "datasets") from error
    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # a damaged file can raise any error
        wrong = f"{path} cannot be read as a saved data set: {in_one_line(error)}"
        raise BadInput(wrong, "save it again by its save_to_disk") from error
    return dict(dataset) if isinstance(dataset, datasets.DatasetDict) else {"all": dataset}


def columns(features: Any, path: Path) -> tuple[str, str | None]:
    """The names of the columns of images and of labels."""
    import datasets

    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if not images:
        held = ", ".join(f"{name}: {type(kind).__name__}" for name, kind in features.items())
        raise BadInput(f"{path} has no column of images, but {held}"[:300], "save a table as .parquet instead")
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return images[0], labels[0] if labels else None


def undecoded() -> Any:
    import datasets

    return datasets.Image(decode=False)


def labels(table: Any, name: str, path: Path) -> Tensor:
    y = torch.from_numpy(numpy.asarray(table.with_format("numpy")[name][:]).astype(numpy.int64))
    count = len(table.features[name].names)
    if len(y) and not (y.min() >= 0 and y.max() < count):
        raise BadInput(f"{path}: labels go from 0 to {count - 1}, got {int(y.min())} to {int(y.max())}", "correct them")
    return y
