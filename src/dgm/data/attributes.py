"""Conditions of examples, from a table beside them: attributes, categories, numbers, texts, or a record of several.

The first column of the table is the file's name, or the one that is called so; each other column says something of the
example. Columns of 0 and 1, or of -1 and 1 as in CelebA's list, are attributes; empty cells are missing values.
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
from dgm.memory import refuse_what_does_not_fit
from dgm.space import Space

FILE_NAMES = ("file", "filename", "file_name", "image", "image_id", "id", "path")
LABEL_NAMES = ("label", "labels", "class", "target", "category")  # columns whose whole numbers are categories
MOST_WORDS, LONGEST_TEXT = 8192, 77  # of a vocabulary, the rarer ones being one token, and of a text
MOST_LABELS = 1000  # of a column of single words, which is one of categories


@dataclass(frozen=True)
class Rows:
    """A table of texts: ``cells`` has a list for each column, ``lines`` the line of each row in the file."""

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
        BadInput: For a file that cannot be read, a name that stands twice in the header, or a row of another length.
    """
    refuse_what_does_not_fit(f"{path}, read,", 60 * path.stat().st_size, "give a part of it")
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
                    raise BadInput(wrong, "mend that row")
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    except csv.Error as error:
        raise BadInput(f"{path} cannot be read as a table: {error}", "save it as comma-separated text") from error
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise BadInput(f"{path} has two columns named '{twice}'", "rename one of them")
    return Rows(path, columns, [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns], lines)


def beside(folder: Path) -> Path | None:
    """The table of a folder of pictures, where there is one.

    Raises:
        BadInput: For several.
    """
    found = sorted(path for path in folder.glob("*.csv") if path.is_file() and not path.name.startswith("."))
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise BadInput(f"{folder} holds {len(found)} tables beside its pictures: {names}", "keep one of them there")
    return found[0] if found else None


def of_files(table: Path, folder: Path, files: Sequence[Path]) -> Rows:
    """The rows of the table in the order of the files, without the column of their names.

    A row names a file by its path below the folder or by its name, with its ending or without.

    Raises:
        BadInput: For a picture without its row, a row without its picture, or one that is named twice.
    """
    rows = read(table)
    k = next((k for k, name in enumerate(rows.columns) if name.casefold() in FILE_NAMES), 0)
    if len(rows.columns) < 2:
        raise BadInput(f"{table} has one column, expected the pictures' names and another", "add what is known of each")
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
    chosen = [place[name] for name in wanted if name is not None]
    unused = sorted(set(range(len(rows.lines))) - set(chosen))
    if unused:
        name, line = rows.cells[k][unused[0]], rows.lines[unused[0]]
        raise BadInput(f"{table}: row {line} names '{name}', and there is no such picture", "add it, or drop the row")
    if len(set(chosen)) < len(chosen):
        twice = next(name for name, count in Counter(wanted).items() if count > 1)
        raise BadInput(f"{table}: '{twice}' is the name of two pictures", "write their paths below the folder")
    return rows.ordered(chosen).without(k)


def names_of(file: Path, folder: Path) -> list[str]:
    """By which a row may name a file, the surest first."""
    path = file.relative_to(folder)
    return [path.as_posix(), file.name, path.with_suffix("").as_posix(), file.stem]


def inferred(rows: Rows, train: Collection[int]) -> Conditions:
    """The condition that the columns make up: of one kind together, else a record, whose parts may be missing.

    Args:
        train: Rows of the training split, whose moments standardise numbers.

    Raises:
        BadInput: For a column without a value, or a number that never changes.
    """
    kinds = {name: kind_of(rows, k) for k, name in enumerate(rows.columns)}
    if any("" in cells for cells in rows.cells) or (len(kinds) > 1 and set(kinds.values()) not in ALIKE):
        return record({name: part_of(rows, k, kinds[name], train) for k, name in enumerate(rows.columns)})
    return of_kind(next(iter(kinds.values())), rows, train)


ALIKE = ({"binary"}, {"number"})  # columns of these are a vector together


def of_kind(kind: str, rows: Rows, train: Collection[int]) -> Conditions:
    """Columns of one kind, without gaps; a single one of categories or texts."""
    match kind:
        case "binary":
            ones = numpy.stack([numpy.array([cell == "1" for cell in cells], numpy.uint8) for cells in rows.cells], 1)
            names = Names(columns=tuple(rows.columns))
            return Conditions(Space.binary((len(rows.columns),)), torch.from_numpy(ones), names)
        case "number":
            return numbers(rows, train)
        case "category":
            return categories(rows.cells[0])
    return texts(rows.cells[0])


def part_of(rows: Rows, k: int, kind: str, train: Collection[int]) -> Conditions:
    """One column as a part of a record: a number is of shape (), an empty cell is a missing value, but of a text."""
    cells = rows.cells[k]
    known = [row for row, cell in enumerate(cells) if cell or kind == "text"]
    place = {row: number for number, row in enumerate(known)}
    column = Rows(rows.path, [rows.columns[k]], [[cells[row] for row in known]], [rows.lines[row] for row in known])
    found = of_kind(kind, column, [place[row] for row in train if row in place])
    if kind in ("binary", "number"):
        found = Conditions(replace(found.space, shape=()), found.y[:, 0], Names())
    if len(known) == len(cells):
        return found
    y = torch.full((len(cells), *found.space.shape), torch.nan, dtype=torch.float64)
    y[known] = found.y.double()
    return Conditions(replace(found.space, optional=True), y, found.names)


def kind_of(rows: Rows, k: int) -> str:
    """What a column holds: ``binary``, ``number``, ``category`` or ``text``.

    Categories are single words of which each stands on two rows on average, and whole numbers in a column that is
    called label, class, target or category.
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


def categories(cells: Sequence[str]) -> Conditions:
    """Numbers that are labels come in their order, and words in theirs."""
    whole = all(cell.isdigit() for cell in cells)
    labels = tuple(sorted(set(cells), key=(lambda cell: (int(cell), cell)) if whole else None))
    number = {label: k for k, label in enumerate(labels)}
    return Conditions.of_labels(torch.tensor([number[cell] for cell in cells]), labels)


def numbers(rows: Rows, train: Collection[int]) -> Conditions:
    y = torch.tensor([[float(cell) for cell in cells] for cells in rows.cells], dtype=torch.float64).T
    loc, scale = y[list(train)].mean(0), y[list(train)].std(0)
    for name, spread in zip(rows.columns, scale.tolist(), strict=True):
        if not spread > 0:
            raise BadInput(f"{rows.path}: column '{name}' never changes", "drop it")
    space = Space.continuous((len(rows.columns),), loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))
    return Conditions(space, y.float(), Names(columns=tuple(rows.columns)))


def texts(cells: Sequence[str]) -> Conditions:
    """Texts as tokens, one a word: the words of all texts, from the most frequent on."""
    split = [words_of(cell) for cell in cells]
    counts = Counter(word for words in split for word in words)
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: MOST_WORDS - 2]
    length = min(LONGEST_TEXT, max(map(len, split)))
    y = tokens(split, length, {word: k + 2 for k, word in enumerate(kept)})
    return Conditions(Space.tokens(length, len(kept) + 2), y, Names(words=tuple(kept)))


def record(parts: Mapping[str, Conditions]) -> Conditions:
    space = Space.record(**{name: part.space for name, part in parts.items()})
    y = space.join({name: part.y for name, part in parts.items()})
    return Conditions(space, y, Names(parts={name: part.names for name, part in parts.items()}))
