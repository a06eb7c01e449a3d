"""The rows of a .csv file as examples of a model of records, and back to the same bytes."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypedDict

import torch
from torch import Tensor

from dgm.compression.content import Interface
from dgm.compression.reals import LARGEST, MOST_PLACES, Grid
from dgm.data.columns import MISSING, Column, of_run
from dgm.errors import BadInput, DgmError, Unsupported
from dgm.space import Space

EXACT = {torch.float32: 2**22, torch.float64: 2**51}  # k of a number that is rounded back to k
MOST = 4  # a share of 1 in so many rows, at most, whose spelling is not that of the values


class AboutOfRows(TypedDict):
    header: str
    delimiter: str
    end: str
    missing: str
    grids: dict[str, list[int | bool]]
    spelled: dict[str, str]


class Rows:
    """A .csv file with the columns of the model.

    ``about`` has the line of the header, the delimiter, the end of a line, the text of a missing value, the grids of
    real numbers, and the text of each row that these do not determine, such as a number with zeros at its front.
    """

    schema: Any = AboutOfRows

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]:
        if not interface.about.get("columns"):
            raise Unsupported(f"{path} is not an example of {interface.space}", "use a model of a table, such as made")
        columns, parts = of_run(interface.about, interface.space), parts_of(interface.space)
        with path.open(encoding="utf-8", newline="") as file:
            try:
                header = file.readline()
                about: dict[str, Any] = {"header": header, "delimiter": delimiter_of(header, columns, path)}
                about["end"] = "\r\n" if header.endswith("\r\n") else "\n"
                about["missing"] = missing_text(records(file, about["delimiter"]))
                grids = grids_in(file, about["delimiter"], columns, parts, path)
                about["grids"] = {str(dim): grid.to_json() for dim, grid in grids.items()}
                refuse_too_fine(grids, columns, interface.space, path)
                file.seek(0)
                file.readline()
                count, spelled = 0, dict[str, str]()
                for raw, cells in records(file, about["delimiter"]):
                    numbers = numbers_of(cells, columns, parts, f"{path}, row {count + 1}")
                    if line(numbers, columns, about, grids) != raw:
                        spelled[str(count)] = raw
                    count += 1
            except (UnicodeDecodeError, csv.Error) as error:
                raise BadInput(f"{path} cannot be read as a table: {error}", "write it as UTF-8 text") from error
        if len(spelled) > max(10, count // MOST):
            shown = next(iter(spelled.values())).strip()
            wrong = f"{len(spelled)} of {count} rows of {path} are not spelled as dgm spells their values: {shown}"
            raise BadInput(wrong, "write the table as `dgm sample --out rows.csv` does")
        return about | {"spelled": spelled}, count

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]:
        columns, parts = of_run(interface.about, interface.space), parts_of(interface.space)
        with path.open(encoding="utf-8", newline="") as file:
            file.readline()
            for _, cells in records(file, about["delimiter"]):
                x = torch.tensor(numbers_of(cells, columns, parts, str(path)))
                yield x.reshape(1, *interface.space.shape).to(interface.space.dtype)

    def restore(self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]) -> None:
        columns, grids, count = of_run(interface.about, interface.space), grids_of([about]), 0
        out.write(about["header"].encode())
        for batch in batches:
            for row in batch.flatten(1).double().tolist():
                text = about["spelled"].get(str(count))
                out.write((line(row, columns, about, grids) if text is None else text).encode())
                count += 1


def grids_in(file: IO[str], delimiter: str, columns: list[Column], parts: list[Space], path: Path) -> dict[int, Grid]:
    """The grid of each column of real numbers."""
    file.seek(0)
    file.readline()
    found: dict[int, Grid] = {}
    for count, (_, cells) in enumerate(records(file, delimiter)):
        numbers = numbers_of(cells, columns, parts, f"{path}, row {count + 1}")
        for dim, part in enumerate(parts):
            if not part.discrete and not math.isnan(numbers[dim]):
                add(found, dim, Grid.of(cells[dim]))
    empty = [dim for dim, part in enumerate(parts) if not part.discrete and dim not in found]
    return found | dict.fromkeys(empty, Grid(0, 0, 1))


def refuse_too_fine(grids: Mapping[int, Grid], columns: list[Column], space: Space, path: Path) -> None:
    for dim, grid in grids.items():
        column, remedy = f"the column '{columns[dim].name}' of {path}", "round it, or give it in a larger unit"
        if grid.places > MOST_PLACES or grid.largest > EXACT[space.dtype]:
            raise BadInput(f"{column} has {grid.places} decimals, more than can be coded", remedy)
        if grid.count > LARGEST:
            wrong = f"{grid.count:,} numbers of {grid.places} decimals lie between the smallest and the largest of"
            raise BadInput(f"{wrong} {column}, at most {LARGEST:,} can be coded", remedy)


def grids_of(parts: Sequence[Mapping[str, Any]]) -> dict[int, Grid]:
    """The grids that have the values of all tables, from the description of each by `Rows.describe`."""
    found: dict[int, Grid] = {}
    for part in parts:
        for dim, document in part.get("grids", {}).items():
            add(found, int(dim), Grid.from_json(document))
    return found


def add(found: dict[int, Grid], dim: int, grid: Grid) -> None:
    """Extends the grid of a column by the values of another."""
    found[dim] = grid.joined(found[dim]) if dim in found else grid


def parts_of(space: Space) -> list[Space]:
    """The space of each column."""
    if space.kind != "record":
        return [replace(space, shape=(), loc=(), scale=())] * space.dim
    return [part for _, part in space.parts for _ in range(part.dim)]


def delimiter_of(header: str, columns: list[Column], path: Path) -> str:
    names = [column.name for column in columns]
    for delimiter in ",;\t":
        if next(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter), []) == names:
            return delimiter
    raise BadInput(f"{path} has other columns than the model, which has {', '.join(names)}", "give such a table")


def records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Each row as it is in the file, with the end of its line, and its cells."""
    read: list[str] = []

    def remembered() -> Iterator[str]:
        for text in lines:
            read.append(text)
            yield text

    for cells in csv.reader(remembered(), delimiter=delimiter):
        yield "".join(read), cells
        read.clear()


def missing_text(rows: Iterable[tuple[str, list[str]]]) -> str:
    """The most frequent text of a missing value."""
    found = Counter(cell for _, cells in rows for cell in cells if cell in MISSING)
    return found.most_common(1)[0][0] if found else ""


def numbers_of(cells: list[str], columns: list[Column], parts: list[Space], where: str) -> list[float]:
    if len(cells) != len(columns):
        raise BadInput(f"{where}: {len(cells)} cells, expected {len(columns)}", "correct that row")
    numbers = []
    for cell, column, part in zip(cells, columns, parts, strict=True):
        try:
            number = column.number_of(cell, part)
        except DgmError as error:
            raise BadInput(f"{where}: {error.wrong}", "compress data like that of the model's training") from error
        if math.isnan(number) and not part.optional:
            raise BadInput(f"{where}: the model has no missing values in '{column.name}'", "fill it in")
        numbers.append(number + 0.0)  # -0.0 comes back as 0.0
    return numbers


def line(numbers: list[float], columns: list[Column], about: dict[str, Any], grids: Mapping[int, Grid]) -> str:
    """The text of a row."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=about["delimiter"], lineterminator=about["end"])
    each = enumerate(zip(columns, numbers, strict=True))
    writer.writerow([cell_of(number, column, grids.get(dim), about["missing"]) for dim, (column, number) in each])
    return out.getvalue()


def cell_of(number: float, column: Column, grid: Grid | None, missing: str) -> str:
    if math.isnan(number):
        return missing
    return column.texts_of([number])[0] if grid is None else grid.text(number)
