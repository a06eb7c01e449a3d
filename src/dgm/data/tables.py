"""The user's own tables: .csv or .parquet with numeric columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy
import torch

from dgm.data.dataset import Dataset, consecutive, shuffled
from dgm.errors import BadInput, MissingExtra
from dgm.memory import refuse_a_bomb, refuse_what_does_not_fit
from dgm.space import Space

LARGEST = float(numpy.finfo(numpy.float32).max)


def load(path: Path, *, seed: int = 0) -> Dataset:
    """Columns as real numbers in their own units; their means and standard deviations stand in the space.

    Raises:
        BadInput: For text or gaps, with the row and the column; for a column that never changes.
        MissingExtra: For Parquet without pyarrow.
    """
    return arranged(path, *(read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)), seed)


def arranged(path: Path, names: list[str], values: numpy.ndarray, seed: int) -> Dataset:
    """Named columns, (N, D) float64, as a data set; ``path`` is where they are from, as an error says it."""
    if len(values) < 10:
        raise BadInput(f"{path} has {len(values)} rows, expected at least 10", "give more data")
    rows, sizes = shuffled(len(values), seed)
    x = torch.from_numpy(values)[rows]
    train = x[: sizes["train"]]
    scale = train.std(0)
    for name, spread in zip(names, scale.tolist(), strict=True):
        if spread == 0:
            raise BadInput(f"{path}: column '{name}' never changes", "drop it")
    space = Space.continuous((x.shape[1],), loc=tuple(train.mean(0).tolist()), scale=tuple(scale.tolist()))
    splits = consecutive(x.float(), None, sizes)
    split = f"80 / 10 / 10 %, seed {seed}"
    return Dataset(name=str(path), space=space, split=split, columns=tuple(names), **splits)


def read_csv(path: Path) -> tuple[list[str], numpy.ndarray]:
    """Column names and rows. The first line is a header if it holds any text that is no number."""
    # numbers of two characters become eight bytes, and two copies of them
    refuse_what_does_not_fit(f"{path}, read,", 8 * path.stat().st_size, "give a part of it")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next((line for line in csv.reader(file) if line), None)
        if first is None:
            raise BadInput(f"{path} is empty", "give rows of numbers")
        headed = any(cell.strip() and not is_number(cell) for cell in first)
        names = [cell.strip() for cell in first] if headed else [f"x{k}" for k in range(len(first))]
        values = parsed(path, headed)
        return names, slowly_parsed(path, names, headed) if values is None else values
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    except csv.Error as error:
        raise BadInput(f"{path} cannot be read as a table: {error}", "save it as comma-separated numbers") from error


def parsed(path: Path, headed: bool) -> numpy.ndarray | None:
    """All rows at numpy's speed; None where one of them has text or a gap."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        if headed:
            next(lines)
        try:
            # of no row at all numpy warns
            values = numpy.loadtxt(chain([next(lines)], lines), delimiter=",", quotechar='"', comments=None, ndmin=2)
        except (ValueError, StopIteration):
            return None
    return values if (numpy.abs(values) < LARGEST).all() else None


def slowly_parsed(path: Path, names: list[str], headed: bool) -> numpy.ndarray:
    """All rows, one cell after the other, so that the first that is wrong can be named by its line and column."""
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        lines = ((reader.line_num, line) for line in reader if line)
        for number, line in islice(lines, int(headed), None):
            if len(line) != len(names):
                raise BadInput(f"{path}: row {number} has {len(line)} fields, expected {len(names)}", "mend that row")
            for name, cell in zip(names, line, strict=True):
                if not is_number(cell):
                    held = f"holds '{cell}'" if cell.strip() else "is empty"
                    wrong = f"{path}: row {number}, column '{name}' {held}, expected a number"
                    raise BadInput(wrong, "fill or drop it")
            rows.append([float(cell) for cell in line])
    return numpy.array(rows).reshape(len(rows), len(names))


def is_number(cell: str) -> bool:
    """Whether it is a finite number that float32 can hold, as which x is kept."""
    try:
        return abs(float(cell)) < LARGEST
    except ValueError:
        return False


def read_parquet(path: Path) -> tuple[list[str], numpy.ndarray]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra.of("reading Parquet", "parquet") from error
    try:
        about = parquet.read_metadata(path)
        numbers = about.num_columns * sum(about.row_group(k).num_rows for k in range(about.num_row_groups))
        refuse_a_bomb(path, 8 * numbers, "write it as .csv, or give a part of it")
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}", "write it again") from error
    return columns(path, dict(zip(table.column_names, table.columns, strict=True)))


def columns(path: Path, table: Mapping[str, Any]) -> tuple[list[str], numpy.ndarray]:
    """The columns of a table, each anything that numpy makes an array of, (N, D) float64."""
    found = []
    for name, column in table.items():
        values = numpy.asarray(column)
        if values.dtype.kind not in "iuf":
            held = getattr(column, "type", values.dtype)
            raise BadInput(f"{path}: column '{name}' holds {held}, expected numbers", "drop or encode it")
        values = values.astype(numpy.float64)  # a gap is NaN
        bad = numpy.flatnonzero(~(numpy.abs(values) < LARGEST))
        if len(bad):
            held = "is empty" if numpy.isnan(values[bad[0]]) else f"holds {values[bad[0]]:g}"
            held = f"row {bad[0] + 1}, column '{name}' {held}"
            raise BadInput(f"{path}: {held}, expected a number", "fill or drop it")
        found.append(values)
    return list(map(str, table)), numpy.stack(found, 1) if found else numpy.empty((0, 0))
