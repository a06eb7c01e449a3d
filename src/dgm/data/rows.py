"""The rows of a table that belong to a trained model: a file's texts as numbers of its space, and back.

The columns are found by their names, in any order. The file may lack columns, whose values are then missing, and may
have others, which are kept as they are.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm.condition import pairs
from dgm.data.columns import MISSING, Column, OutOfRange
from dgm.data.tables import UNREADABLE, Head, names_in, read_parquet, refuse_two_of_a_name
from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief
from dgm.memory import refuse_too_large
from dgm.space import Space

DRAW = "draw"  # the column of a completed table that numbers the draws of a row


@dataclass(frozen=True)
class Rows:
    """A table of texts.

    Attributes:
        cells: One list for each row.
        lines: The number of each row in the file.
        delimiter: Of a .csv file.
    """

    path: Path
    names: list[str]
    cells: list[list[str]]
    lines: list[int]
    delimiter: str = ","


def read(path: Path) -> Rows:
    """The rows of a .csv file, with or without a header, or of a .parquet file.

    Raises:
        BadInput: If the file is not a table.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}", "check the path")
    if path.suffix.lower() == ".parquet":
        return of_parquet(path)
    refuse_too_large(f"{path}, read,", 60 * path.stat().st_size, "give a part of it")
    head = Head.of(path)
    refuse_two_of_a_name(path, head.names)
    cells, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=head.delimiter, skipinitialspace=True)
            for row in filter(None, reader):
                if reader.line_num <= head.lines:
                    continue
                if len(row) != len(head.names):
                    wrong = f"{path}: row {reader.line_num} has {len(row)} fields, expected {len(head.names)}"
                    raise BadInput(wrong, "correct that row")
                cells.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as a table: {error}", "save it as comma-separated values") from error
    if not cells:
        raise BadInput(f"{path} has no rows", "give at least one")
    return Rows(path, head.names, cells, lines, head.delimiter)


def of_parquet(path: Path) -> Rows:
    table = read_parquet(path)
    columns = [["" if value is None else text_of(value) for value in column.to_pylist()] for column in table.values()]
    cells = [list(row) for row in zip(*columns, strict=True)]
    return Rows(path, list(table), cells, list(range(1, len(cells) + 1)))


def text_of(value: Any) -> str:
    """A value as a .csv file has it, real numbers with all their digits."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def numbers(
    rows: Rows,
    columns: Sequence[Column],
    space: Space,
    *,
    others: Sequence[str] = (),
    outside: float | None = None,
) -> Tensor:
    """The values of the columns as numbers of the space, (N, D) float64 with NaN where a value is missing.

    Args:
        others: The names of further columns of the training data, which the file may have too.
        outside: In place of values outside of the range of their column, and of categories that did not occur in the
            training data; None raises an error for them.

    Raises:
        BadInput: If a cell is not a value of its column, or no column of the file is one of the model's.
        UnknownName: If a category did not occur in the training data.
    """
    spaces = spaces_of(columns, space)
    x = torch.full((len(rows.cells), len(columns)), torch.nan, dtype=torch.float64)
    for name in rows.names:
        if not any(name == column.name for column in columns) and name not in others:
            raise UnknownName.of("column of this run", name, [column.name for column in columns])
    for k, column in enumerate(columns):
        if column.name in rows.names:
            place = rows.names.index(column.name)
            each = [numbered(rows, i, place, column, spaces[k], outside) for i in range(len(rows.cells))]
            x[:, k] = torch.tensor(each, dtype=torch.float64)
    return x


def numbered(rows: Rows, row: int, place: int, column: Column, space: Space, outside: float | None) -> float:
    try:
        return column.number_of(rows.cells[row][place], space)
    except (BadInput, UnknownName) as error:
        if outside is not None and isinstance(error, (OutOfRange, UnknownName)):
            return outside
        raise type(error)(f"{rows.path}, row {rows.lines[row]}: {error.wrong}", error.remedy) from error


def spaces_of(columns: Sequence[Column], space: Space) -> list[Space]:
    """The space of each column."""
    parts = [part for _, part in space.parts]
    return parts if len(parts) == len(columns) else [Space.continuous(())] * len(columns)


def of_words(given: str, columns: Sequence[Column], space: Space) -> tuple[Tensor, Tensor]:
    """One row of ``name=value,name=value``, and which of its values are given, (D,) each; an empty value is missing.

    Raises:
        UnknownName: If there is no such column or no such category.
        BadInput: If the text has another form, or a value is none of its column.
    """
    names = [column.name for column in columns]
    spaces, x = spaces_of(columns, space), torch.zeros(len(columns), dtype=torch.float64)
    found: Mapping[str, str] = pairs(given, names) if "=" in given else {}
    if not found:
        raise BadInput(f"{brief(given)} gives no column a value", f'write it as "{names[0]}=value"')
    for name, value in found.items():
        if name not in names:
            raise UnknownName.of("column of this run", name, names)
        k = names.index(name)
        x[k] = columns[k].number_of(value, spaces[k])
        if x[k].isnan() and not spaces[k].optional:
            raise BadInput(f"no value of '{name}' was missing in the training data", "give it a value")
    return x, torch.tensor([name in found for name in names])


def write_completed(rows: Rows, x: Tensor, columns: Sequence[Column], out: Path) -> None:
    """The table with its missing values filled, all other cells as they were; of several draws, each row so often.

    Args:
        x: (N, n, D), n draws for each row.
    """
    draws = x.shape[1]
    names = [*rows.names, *(column.name for column in columns if column.name not in rows.names)]
    texts = {column.name: column.texts_of(x[..., k].flatten().tolist()) for k, column in enumerate(columns)}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=rows.delimiter)
        writer.writerow([*names, *([DRAW] if draws > 1 else [])])
        for k in range(len(rows.cells) * draws):
            held = dict(zip(rows.names, rows.cells[k // draws], strict=True))
            row = [texts[name][k] if name in texts and held.get(name, "") in MISSING else held[name] for name in names]
            writer.writerow([*row, *([k % draws + 1] if draws > 1 else [])])


def beside(about: Mapping[str, Any]) -> list[str]:
    """The names of the columns of a run's table that its model does not generate: skipped ones and conditions."""
    options = about.get("options", {})
    skipped = [cell.rpartition("=")[0].strip() for cell in names_in(str(options.get("types", "")))]
    return [*skipped, *names_in(str(options.get("condition_columns", "")))]
