"""The user's own tables: .csv or .parquet with numeric columns."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from dgm.data.dataset import Dataset, consecutive, shuffled
from dgm.errors import BadInput, MissingExtra
from dgm.space import Space


def load(path: Path, *, seed: int = 0) -> Dataset:
    """Columns as real numbers in their own units; their means and standard deviations stand in the space.

    Raises:
        BadInput: For text or gaps, with the row and the column; for a column that never changes.
        MissingExtra: For Parquet without pyarrow.
    """
    names, rows = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    x = torch.tensor(rows, dtype=torch.float64)
    if len(x) < 10:
        raise BadInput(f"{path} has {len(x)} rows, expected at least 10", "give more data")
    rows, sizes = shuffled(len(x), seed)
    x = x[rows]
    train = x[: sizes["train"]]
    scale = train.std(0)
    for name, spread in zip(names, scale.tolist(), strict=True):
        if spread == 0:
            raise BadInput(f"{path}: column '{name}' never changes", "drop it")
    space = Space.continuous((x.shape[1],), loc=tuple(train.mean(0).tolist()), scale=tuple(scale.tolist()))
    splits = consecutive(x.float(), None, sizes)
    return Dataset(name=str(path), space=space, split=f"80 / 10 / 10 %, seed {seed}", **splits)


def read_csv(path: Path) -> tuple[list[str], list[list[float]]]:
    """Column names and rows. The first line is a header unless all of it is numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    if not lines:
        raise BadInput(f"{path} is empty", "give rows of numbers")
    headed = not all(map(is_number, lines[0]))
    names = [name.strip() for name in lines[0]] if headed else [f"x{k}" for k in range(len(lines[0]))]
    rows = []
    for number, line in enumerate(lines[headed:], 1 + headed):
        if len(line) != len(names):
            raise BadInput(f"{path}: row {number} has {len(line)} fields, expected {len(names)}", "mend that row")
        for name, cell in zip(names, line, strict=True):
            if not is_number(cell):
                held = f"holds '{cell}'" if cell.strip() else "is empty"
                raise BadInput(f"{path}: row {number}, column '{name}' {held}, expected a number", "fill or drop it")
        rows.append([float(cell) for cell in line])
    return names, rows


def is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) < float("inf")
    except ValueError:
        return False


def read_parquet(path: Path) -> tuple[list[str], list[list[float]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra.of("reading Parquet", "parquet") from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}", "write it again") from error
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not (pyarrow.types.is_floating(column.type) or pyarrow.types.is_integer(column.type)):
            raise BadInput(f"{path}: column '{name}' holds {column.type}, expected numbers", "drop or encode it")
        values = column.to_pylist()
        for row, value in enumerate(values, 1):
            if value is None or not is_number(str(value)):
                raise BadInput(
                    f"{path}: row {row}, column '{name}' holds {value}, expected a number", "fill or drop it"
                )
        columns.append(values)
    return list(table.column_names), [list(map(float, row)) for row in zip(*columns, strict=True)]
