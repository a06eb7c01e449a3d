"""The user's own tables, .csv or .parquet. The type of each column is inferred, unless the user specifies it.

Columns of texts are categories; columns of ``true`` and ``false``, or of 0 and 1, are booleans; columns of ISO dates
are dates; columns such as 08:30 are times of the day; columns of whole numbers are integers; and columns of other
numbers are real. The rows of a table are vectors of real numbers if all columns are numeric, none has missing values,
and none has only a few distinct whole numbers. The rows of any other table are records.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import torch
from pyarrow import compute as arrow
from pyarrow import csv as arrow_csv
from pyarrow import parquet
from torch import Tensor

from dgm.condition import Names
from dgm.data.columns import DIGITS, MISSING, SKIP, Column, Wanted, requested_types
from dgm.data.dataset import Conditions, Dataset, consecutive, shuffled
from dgm.data.inference import TEXT, TIME, Part, part_of
from dgm.errors import BadInput, UnknownName, in_one_line
from dgm.inputs import how_many, refuse_twice
from dgm.memory import refuse_a_bomb, refuse_too_large
from dgm.space import Space

DELIMITERS = ",;\t"
PADDED = re.compile(rb"(?:^|[^\d.\-:/])0\d")  # a number with a leading zero, as in the ZIP code 01234
UNREADABLE = (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError)


def load(path: Path, *, seed: int = 0, types: str = "", condition_columns: str = "") -> Dataset:
    """Loads a table; the columns keep their units and types.

    Args:
        types: The user's types of columns, in the form of `dgm.data.columns.requested_types`.
        condition_columns: The columns that are the condition of the other columns, separated by commas.

    Raises:
        BadInput: If the file is not a table, or a column cannot be modelled, with the name of the column.
        UnknownName: If a column or a type does not exist.
    """
    wanted = requested_types(types)
    if path.suffix.lower() == ".parquet":
        return arranged(path, read_parquet(path), seed, wanted, names_in(condition_columns))
    head = Head.of(path)
    table = read_csv(path, head, wanted)
    return arranged(path, table, seed, wanted, names_in(condition_columns), first=head.lines + 1)


def names_in(text: str) -> list[str]:
    """The names of columns, separated by commas; a name that contains a comma is written in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


def arranged(
    path: Path,
    table: Mapping[str, Any],
    seed: int,
    wanted: Mapping[str, Wanted],
    given: Sequence[str] = (),
    first: int = 1,
) -> Dataset:
    """A data set of named columns.

    Args:
        path: The source of the columns in messages of errors.
        table: The columns as pyarrow arrays, by name.
        wanted: The user's types of columns.
        given: The names of the columns that are the condition of the other columns.
        first: The number of the first row in messages of errors.
    """
    for name in [*wanted, *given]:
        if name not in table:
            raise UnknownName.of("column", name, table)
    refuse_twice("column", given)
    names = [name for name in table if name not in wanted or wanted[name].type != SKIP]
    if table and not names:
        raise BadInput(f"{path}: every column is skipped", "keep one")
    n = len(table[names[0]]) if names else 0
    if n < 10:
        raise BadInput(f"{path} has {how_many(n, 'row')}, expected at least 10", "give more data")
    parts = [part_of(f"{path}: column '{name}'", name, table[name], wanted.get(name), first) for name in names]
    rows, sizes = shuffled(n, seed)
    conditions = condition_of([part for part in parts if part.column.name in given], rows, sizes["train"])
    parts = [part for part in parts if part.column.name not in given]
    if not parts:
        raise BadInput(f"{path} has no column beside those of the condition", "name fewer columns")
    measured = not any(part.counted for part in parts)
    x = torch.from_numpy(numpy.stack([part.numbers if measured else part.x for part in parts], 1))[rows]
    columns = tuple(Column(name=part.column.name) if measured else part.column for part in parts)
    make = vector if measured else record
    return Dataset(
        name=str(path),
        space=make(parts, x[: sizes["train"]]),
        split=f"80 / 10 / 10 %, seed {seed}",
        columns=columns,
        **consecutive(x.float() if measured else x, conditions, sizes),
    )


def condition_of(parts: Sequence[Part], rows: Tensor, train: int) -> Conditions | None:
    """The condition of columns: one label, a vector of booleans or of real numbers, or else a record.

    Args:
        rows: The order of the examples, of which the first ``train`` are the training split.
    """
    if not parts:
        return None
    measured = not any(part.counted for part in parts)
    y = torch.from_numpy(numpy.stack([part.numbers if measured else part.x for part in parts], 1))[rows]
    columns = [part.column for part in parts]
    if measured:
        return Conditions(vector(parts, y[:train]), y.float(), Names(columns=tuple(column.name for column in columns)))
    if len(parts) == 1 and columns[0].type == "category" and not parts[0].space.optional:
        return Conditions.of_labels(y[:, 0], columns[0].values, columns[0].name)
    if all(column.values == DIGITS for column in columns) and not any(part.space.optional for part in parts):
        names = Names(columns=tuple(column.name for column in columns))
        return Conditions(Space.binary((len(columns),)), y.to(torch.uint8), names)
    names = Names(parts={column.name: names_of(column) for column in columns})
    return Conditions(record(parts, y[:train]), y, names)


def names_of(column: Column) -> Names:
    """The names of the numbers of a column."""
    return Names(labels=column.values, offset=column.offset, dates=column.type == "date", unit=column.unit)


def vector(parts: Sequence[Part], train: Tensor) -> Space:
    scale = train.std(0)
    scale = torch.where(scale > 0, scale, 1.0)
    return Space.continuous((len(parts),), loc=tuple(train.mean(0).tolist()), scale=tuple(scale.tolist()))


def record(parts: Sequence[Part], train: Tensor) -> Space:
    return Space.record(**{part.column.name: standardised(part.space, train[:, k]) for k, part in enumerate(parts)})


def standardised(space: Space, train: Tensor) -> Space:
    """The space with the location and the scale of the known values in the training split."""
    known = train[~train.isnan()]
    if space.kind not in ("continuous", "levels") or space.bounds or len(known) < 2:
        return space
    scale = float(known.std())
    return replace(space, loc=(float(known.mean()),), scale=(scale if scale > 0 else 1.0,))


@dataclass(frozen=True)
class Head:
    """The head of a .csv file: the names of its columns, the number of header lines, and the delimiter."""

    names: list[str]
    lines: int
    delimiter: str

    @classmethod
    def of(cls, path: Path) -> Head:
        """Reads the head of a file. The first line is a header if any of its cells is not a number."""
        # a number of two characters takes eight bytes, twice
        refuse_too_large(f"{path}, read,", 8 * path.stat().st_size, "give a part of it")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                line = next((line for line in file if line.strip()), "")
                delimiter = max(DELIMITERS, key=line.count)
                file.seek(0)
                reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
                first = next((line for line in reader if line), None)
                if first is None:
                    raise BadInput(f"{path} is empty", "give rows of values")
                headed = any(cell.strip() and not is_number(cell) for cell in first)
                names = [cell.strip() if headed and cell.strip() else f"x{k}" for k, cell in enumerate(first)]
                return cls(names, reader.line_num if headed else 0, delimiter)
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is not a text: {error.reason} at byte {error.start}", "save it as UTF-8") from error
        except csv.Error as error:
            raise BadInput(f"{path} cannot be read as a table: {error}", "save it as comma-separated values") from error


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_csv(path: Path, head: Head, wanted: Mapping[str, Wanted]) -> dict[str, Any]:
    """The columns by name; columns whose type the user sets to category are read as texts, and so are codes."""
    refuse_two_of_a_name(path, head.names)
    table = columns_of(path, head, [name for name, wish in wanted.items() if wish.type == "category"])
    whole = [name for name, values in table.items() if name not in wanted and pyarrow.types.is_integer(values.type)]
    if not (whole and PADDED.search(path.read_bytes())):
        return table
    texts = columns_of(path, head, whole, only=whole)
    codes = [name for name in whole if arrow.any(arrow.match_substring_regex(texts[name], r"^\s*0\d")).as_py()]
    return table | {name: texts[name] for name in codes}


def columns_of(path: Path, head: Head, as_text: Sequence[str], *, only: Sequence[str] = ()) -> dict[str, Any]:
    """The columns by name; all of them, if ``only`` is empty."""
    how = {
        "parse_options": arrow_csv.ParseOptions(delimiter=head.delimiter, newlines_in_values=True),
        "convert_options": arrow_csv.ConvertOptions(
            null_values=MISSING,
            strings_can_be_null=True,
            column_types=dict.fromkeys(as_text, TEXT),
            include_columns=only,
        ),
    }
    reading = {"column_names": head.names, "skip_rows": head.lines}
    try:
        table = arrow_csv.read_csv(path, read_options=arrow_csv.ReadOptions(**reading), **how)
    except UNREADABLE:
        try:  # read again with one thread, so that the error has the row number
            table = arrow_csv.read_csv(path, read_options=arrow_csv.ReadOptions(**reading, use_threads=False), **how)
        except UNREADABLE as error:
            wrong = f"{path} cannot be read as a table: {in_one_line(error)}"
            raise BadInput(wrong, "correct that row") from error
    return dict(zip(table.column_names, table.columns, strict=True))


def read_parquet(path: Path) -> dict[str, Any]:
    try:
        about = parquet.read_metadata(path)
        numbers = about.num_columns * sum(about.row_group(k).num_rows for k in range(about.num_row_groups))
        refuse_a_bomb(path, 8 * numbers, "write it as .csv, or give a part of it")
        table = parquet.read_table(path)
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}", "write it again") from error
    refuse_two_of_a_name(path, table.column_names)
    return dict(zip(table.column_names, table.columns, strict=True))


def refuse_two_of_a_name(path: Path, names: Sequence[str]) -> None:
    twice = next((a for a, b in pairwise(sorted(names)) if a == b), None)
    if twice is not None:
        raise BadInput(f"{path} has two columns named '{twice}'", "rename one of them")


def in_memory(table: Any) -> dict[str, Any]:
    """The columns of a table of pandas, polars or pyarrow."""
    names = getattr(table, "column_names", None) or table.columns
    return {str(name): in_arrow(str(name), table[name]) for name in names}


def in_arrow(name: str, column: Any) -> Any:
    if isinstance(column, pyarrow.ChunkedArray):
        return column
    try:
        if hasattr(column, "to_arrow"):
            return pyarrow.chunked_array([column.to_arrow()])
        return pyarrow.chunked_array([pyarrow.array(column, from_pandas=True)])
    except UNREADABLE as error:
        raise BadInput(f"column '{name}' cannot be read: {error}", "convert or drop it") from error


def write(x: Tensor, columns: Sequence[Column], out: Path, suffix: str) -> None:
    """Writes a batch (N, D) as a .csv or .parquet file. Each column has its own type; missing values are empty."""
    numbers = [(column, x[:, k]) for k, column in enumerate(columns)]
    if suffix == ".parquet":
        arrays = [
            pyarrow.array(values.numpy(), from_pandas=True)
            if column.type == "real"
            else pyarrow.array(column.values_of(values.tolist()), TIME if column.type == "time" else None)
            for column, values in numbers
        ]
        parquet.write_table(pyarrow.Table.from_arrays(arrays, [column.name for column in columns]), out)
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(column.name for column in columns)
        rows.writerows(zip(*(column.texts_of(values.tolist()) for column, values in numbers), strict=True))
