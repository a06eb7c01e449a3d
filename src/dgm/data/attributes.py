"""Conditions of examples from a table beside their files: attributes, categories, numbers, texts, or a record of them.

The name of the file is in the column of that name, or else in the first column; each other column describes the
example. Columns of 0 and 1, or of -1 and 1 as in CelebA's list, are attributes. Empty cells are missing values.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch

from dgm.condition import Names, tokens, words_of
from dgm.data.dataset import Conditions
from dgm.errors import BadInput
from dgm.memory import refuse_too_large
from dgm.space import Space

FILE_NAMES = ("file", "filename", "file_name", "image", "image_id", "id", "path")
LABEL_NAMES = ("label", "labels", "class", "target", "category")  # columns whose whole numbers are categories
MOST_WORDS, LONGEST_TEXT = 8192, 77  # words of a vocabulary (all rarer words are one token), and words of a text
MOST_LABELS = 1000  # distinct single words in a column of categories


@dataclass(frozen=True)
class Rows:
    """A table of texts: ``cells`` has one list for each column, ``lines`` the line number of each row in the file."""

    path: Path
    columns: list[str]
    cells: list[list[str]]
    lines: list[int]

    def without(self, k: int) -> Rows:
        return Rows(
            self.path, self.columns[:k] + self.columns[k + 1 :], self.cells[:k] + self.cells[k + 1 :], self.lines
        )

    def ordered(self, rows: Sequence[int]) -> Rows:
        cells = [[column[row] for row in rows] for column in self.cells]
        return Rows(self.path, self.columns, cells, [self.lines[row] for row in rows])


def read(path: Path) -> Rows:
    """The rows of a .csv file with a header.

    Raises:
        BadInput: If the file cannot be read, a name occurs twice in the header, or a row has another length.
    """
    refuse_too_large(f"{path}, read,", 60 * path.stat().st_size, "give a part of it")
    columns: list[str] = []
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in filter(None, reader):
                if not columns:
                    columns = [cell.strip() for cell in row]
                    continue
                if len(row) != len(columns):
                    wrong = f"{path}: row {reader.line_num} has {len(row)} fields, expected {len(columns)}"
                    raise BadInput(wrong, "correct that row")
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a text: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    except csv.Error as error:
        raise BadInput(f"{path} cannot be read as a table: {error}", "save it as comma-separated text") from error
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{path} has two columns named '{twice}'", "rename one of them")
    return Rows(path, columns, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns], lines)


def beside(folder: Path) -> Path | None:
    """The table of a folder of images, or None if the folder has no table.

    Raises:
        BadInput: If there are several tables.
    """
    tables = sorted(path for path in folder.glob("*.csv") if path.is_file() and not path.name.startswith("."))
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:4])
        raise BadInput(f"{folder} holds {len(tables)} tables beside its pictures: {names}", "keep one of them there")
    return tables[0] if tables else None


def of_files(table: Path, folder: Path, files: Sequence[Path]) -> Rows:
    """The rows of the table in the order of the files, without the column of file names.

    A row names a file by its path relative to the folder or by its name, with or without the suffix.

    Raises:
        BadInput: If an image has no row, a row has no image, or a row names an image that another row names too.
    """
    rows = read(table)
    k = next((k for k, name in enumerate(rows.columns) if name.casefold() in FILE_NAMES), 0)
    if len(rows.columns) < 2:
        raise BadInput(
            f"{table} has one column, expected the pictures' names and another",
            "add a column with a value of each picture",
        )
    place: dict[str, int] = {}
    for row, (name, line) in enumerate(zip(rows.cells[k], rows.lines, strict=True)):
        if place.setdefault(name, row) != row:
            raise BadInput(f"{table}: row {line} names '{name}' a second time", "keep one of the two")
    wanted: list[str | None] = []
    for file in files:
        wanted.append(next((name for name in names_of(file, folder) if name in place), None))
    lone = next((file for file, name in zip(files, wanted, strict=True) if name is None), None)
    if lone is not None:
        raise BadInput(f"{table} has no row of the picture {lone.relative_to(folder)}", "add it, or move the picture")
    order = [place[name] for name in wanted if name is not None]
    unused = sorted(set(range(len(rows.lines))) - set(order))
    if unused:
        name, line = rows.cells[k][unused[0]], rows.lines[unused[0]]
        raise BadInput(f"{table}: row {line} names '{name}', and there is no such picture", "add it, or drop the row")
    if len(set(order)) < len(order):
        twice = next(name for name, count in Counter(wanted).items() if count > 1)
        raise BadInput(f"{table}: '{twice}' is the name of two pictures", "write their paths below the folder")
    return rows.ordered(order).without(k)


def names_of(file: Path, folder: Path) -> list[str]:
    """The names by which a row may refer to a file, the most specific first."""
    path = file.relative_to(folder)
    return [path.as_posix(), file.name, path.with_suffix("").as_posix(), file.stem]


def inferred(rows: Rows, train: Collection[int]) -> Conditions:
    """The condition of all columns: columns of one kind form one space; otherwise the condition is a record.

    Args:
        train: The rows of the training split; its moments standardise the numbers.

    Raises:
        BadInput: If a column has no value, or is numeric and constant.
    """
    kinds = {name: kind_of(rows, k) for k, name in enumerate(rows.columns)}
    if any("" in cells for cells in rows.cells) or (len(kinds) > 1 and set(kinds.values()) not in ALIKE):
        return record({name: part_of(rows, k, kinds[name], train) for k, name in enumerate(rows.columns)})
    return of_kind(next(iter(kinds.values())), rows, train)


ALIKE = ({"binary"}, {"number"})  # columns of one of these kinds form a vector


def of_kind(kind: str, rows: Rows, train: Collection[int]) -> Conditions:
    """The condition of columns of one kind without missing values; of categories or texts, of a single column."""
    match kind:
        case "binary":
            ones = numpy.stack([numpy.array([cell == "1" for cell in cells], numpy.uint8) for cells in rows.cells], 1)
            names = Names(columns=tuple(rows.columns))
            return Conditions(Space.binary((len(rows.columns),)), torch.from_numpy(ones), names)
        case "number":
            return numbers(rows, train)
        case "category":
            return categories(rows.cells[0], rows.columns[0])
    return texts(rows.cells[0])


def part_of(rows: Rows, k: int, kind: str, train: Collection[int]) -> Conditions:
    """One column as a part of a record. A number has the shape (); an empty cell is a missing value, except of text."""
    cells = rows.cells[k]
    known = [row for row, cell in enumerate(cells) if cell or kind == "text"]
    place = {row: number for number, row in enumerate(known)}
    column = Rows(rows.path, [rows.columns[k]], [[cells[row] for row in known]], [rows.lines[row] for row in known])
    known_values = of_kind(kind, column, [place[row] for row in train if row in place])
    if kind in ("binary", "number"):
        known_values = Conditions(replace(known_values.space, shape=()), known_values.y[:, 0], Names())
    if len(known) == len(cells):
        return known_values
    y = torch.full((len(cells), *known_values.space.shape), torch.nan, dtype=torch.float64)
    y[known] = known_values.y.double()
    return Conditions(replace(known_values.space, optional=True), y, known_values.names)


def kind_of(rows: Rows, k: int) -> str:
    """The kind of a column: ``binary``, ``number``, ``category`` or ``text``.

    A column of single words is of categories if each word occurs twice on average; a column of integers is of
    categories if its name is label, class, target or category.
    """
    name, cells = rows.columns[k], [cell for cell in rows.cells[k] if cell]
    if not cells:
        raise BadInput(f"{rows.path}: column '{name}' is empty", "drop it")
    different = set(cells)
    few = 2 * len(different) <= len(cells) and len(different) <= MOST_LABELS
    words = all(len(cell.split()) == 1 for cell in different)
    if name.casefold() in LABEL_NAMES and few and words:
        return "category"
    if different <= {"0", "1"} or different <= {"-1", "1"}:
        return "binary"
    if all(map(is_number, different)):
        return "number"
    return "category" if few and words else "text"


def is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) < 3.4e38
    except ValueError:
        return False


def categories(cells: Sequence[str], column: str | None = None) -> Conditions:
    """A column as categories: numbers in numerical order, words in alphabetical order."""
    whole = all(cell.isdigit() for cell in cells)
    labels = tuple(sorted(set(cells), key=(lambda cell: (int(cell), cell)) if whole else None))
    number = {label: k for k, label in enumerate(labels)}
    return Conditions.of_labels(torch.tensor([number[cell] for cell in cells]), labels, column)


def numbers(rows: Rows, train: Collection[int]) -> Conditions:
    y = torch.tensor([[float(cell) for cell in cells] for cells in rows.cells], dtype=torch.float64).T
    loc, scale = y[list(train)].mean(0), y[list(train)].std(0)
    for name, spread in zip(rows.columns, scale.tolist(), strict=True):
        if not spread > 0:
            raise BadInput(f"{rows.path}: column '{name}' never changes", "drop it")
    space = Space.continuous((len(rows.columns),), loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))
    return Conditions(space, y.float(), Names(columns=tuple(rows.columns)))


def texts(cells: Sequence[str]) -> Conditions:
    """Texts as tokens, one for each word; the vocabulary has the most frequent words of all texts."""
    split = [words_of(cell) for cell in cells]
    counts = Counter(word for words in split for word in words)
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))[: MOST_WORDS - 2]
    length = min(LONGEST_TEXT, max(map(len, split)))
    y = tokens(split, length, {word: k + 2 for k, word in enumerate(vocabulary)})
    return Conditions(Space.tokens(length, len(vocabulary) + 2), y, Names(words=tuple(vocabulary)))


def record(parts: Mapping[str, Conditions]) -> Conditions:
    space = Space.record(**{name: part.space for name, part in parts.items()})
    y = space.join({name: part.y for name, part in parts.items()})
    return Conditions(space, y, Names(parts={name: part.names for name, part in parts.items()}))
