"""The columns of a table: their types, and the conversion of the numbers of a batch to values.

>>> joined = Column(name="joined", type="date", offset=19_000)
>>> joined.values_of([3.0, float("nan")])
[datetime.date(2022, 1, 11), None]
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from dgm.errors import BadInput, UnknownName
from dgm.inputs import of_type
from dgm.space import Space
from dgm.time_of_day import DAY, UNITS, number_of, text_of, time_of

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.condition import Names

Type = Literal["real", "integer", "category", "boolean", "date", "time"]
TYPES: tuple[str, ...] = get_args(Type)
SKIP = "skip"
EPOCH = date(1970, 1, 1)
LARGEST = 3.4e38  # of real numbers, as float32
KINDS = {"real": "continuous", "category": "categories", "boolean": "binary"}  # of all others: levels
WANTED = {
    "real": "number",
    "integer": "whole number",
    "date": "date such as 2020-12-31",
    "time": "time of the day such as 08:30",
}
TRUTH, DIGITS = ("false", "true"), ("0", "1")  # the texts of booleans, in words and as numbers
MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")  # texts of a missing value
SHOWN = 4  # categories in an overview
SIGNIFICANT = 8  # significant digits of a real number in a .csv file, as many as float32 has


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: The name in the table's header with its unit, such as ``income [kEUR]``.
        type: The type of the values.
        offset: The value of level 0, for integers, dates and times; a date is the number of days since 1970-01-01, a
            time the number of units since midnight.
        values: The text of each value, from 0 on, for categories and booleans.
        unit: The milliseconds from one level to the next, for times.
    """

    name: str
    type: Type = "real"
    offset: int = 0
    values: tuple[str, ...] = ()
    unit: int = 0

    def fits(self, part: Space) -> bool:
        """Whether ``part``, the space of a part of a record, can hold the numbers of this column."""
        if self.type == "date":
            first, last = date.min.toordinal(), date.max.toordinal()
            day = self.offset + EPOCH.toordinal()  # the day of level 0
            return part.kind == "levels" and first <= day and day + (part.values or 0) - 1 <= last
        if self.type == "time":
            last = (self.offset + (part.values or 0) - 1) * self.unit
            return part.kind == "levels" and self.unit in UNITS and self.offset >= 0 and last < DAY
        if self.type in ("category", "boolean"):
            return part.kind == KINDS[self.type] and len(self.values) == part.values
        return part.kind == KINDS.get(self.type, "levels")

    def values_of(self, numbers: Iterable[float]) -> list[Any]:
        """The value, a float, int, str, bool, date or time, of each number in a batch's column; None for NaN."""
        return [None if math.isnan(number) else self.value_of(number) for number in numbers]

    def value_of(self, number: float) -> Any:
        match self.type:
            case "real":
                return number
            case "integer":
                return int(number) + self.offset
            case "date":
                return EPOCH + timedelta(days=int(number) + self.offset)
            case "time":
                return time_of(int(number) + self.offset, self.unit)
        if self.values == TRUTH:
            return bool(number)
        return int(number) if self.values == DIGITS else self.values[int(number)]

    def texts_of(self, numbers: Iterable[float]) -> list[str]:
        """The values as texts of a .csv file; the empty text for a missing value."""
        if self.type == "time":
            return ["" if math.isnan(number) else text_of(number + self.offset, self.unit) for number in numbers]
        return [text(value) for value in self.values_of(numbers)]

    def number_of(self, text: str, space: Space) -> float:
        """The number of a value that is written as a text, the inverse of `texts_of`; NaN for a missing value.

        Args:
            space: The space of the column.

        Raises:
            BadInput: If the text is not a value of this column.
            OutOfRange: If only the range of the column excludes it.
            UnknownName: If the column has no such category.
        """
        text = text.strip()
        if text in MISSING:
            return math.nan
        if self.values in (TRUTH, DIGITS):
            text = text.lower().removesuffix(".0")
        if self.values:
            if text not in self.values:
                raise UnknownName.of(f"value of the column '{self.name}'", text, self.values)
            return float(self.values.index(text))
        number = self.number_in(text) - self.offset
        low, high = (0, (space.values or 0) - 1) if space.discrete else space.bounds or (-LARGEST, LARGEST)
        if not low <= number <= high or (space.discrete and number % 1):
            limits = ""
            if abs(high) < LARGEST:
                limits = " from {} to {}".format(*self.texts_of([low, high]))
            wrong = f"'{text}' is not a value of the column '{self.name}', expected a {WANTED[self.type]}{limits}"
            outside = not math.isnan(number) and (not space.discrete or number % 1 == 0)
            raise (OutOfRange if outside else BadInput)(wrong, "correct it, or leave the value out")
        return number

    def number_in(self, text: str) -> float:
        """The number of a text: for a date in days since 1970-01-01, for a time in units since midnight; else NaN."""
        if self.type == "time":
            return number_of(text, self.unit)
        try:
            return (datetime.fromisoformat(text).date() - EPOCH).days if self.type == "date" else float(text)
        except ValueError:
            return math.nan

    def to_json(self) -> dict[str, Any]:
        """The column as JSON, without empty fields."""
        document = {key: value for key, value in asdict(self).items() if value not in (0, ())}
        return document | ({"values": list(self.values)} if self.values else {})

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Column:
        return cls(**{**document, "values": tuple(document.get("values", ()))})


def of_run(about: Mapping[str, Any], space: Space) -> list[Column]:
    """A column for each dimension of a batch; if the data was a table, the columns of that table.

    Args:
        about: The description of the data in a run's config.json.
    """
    if described := about.get("columns"):
        return [Column.from_json(document) for document in described]
    names = [f"x{k}" for k in range(space.dim)]
    for name, place in space.places.items():  # the parts of a record
        names[place] = [name] if place.stop - place.start == 1 else [f"{name}_{k}" for k in range(len(names[place]))]
    return [Column(name=name) for name in names]


def of_condition(space: Space, names: Names, given: Sequence[str]) -> list[Column]:
    """The columns of a table's condition.

    Args:
        space: The space of the condition.
        given: The names of its columns.
    """
    if space.kind == "record":
        return [_of_part(name, part, names.parts[name]) for name, part in space.parts]
    if space.kind == "binary":
        return [Column(name=name, type="boolean", values=DIGITS) for name in names.columns]
    return [_of_part(given[0], space, names)] if not space.shape else [Column(name=name) for name in names.columns]


def _of_part(name: str, part: Space, names: Names) -> Column:
    if part.kind == "levels":
        type_: Type = "date" if names.dates else "time" if names.unit else "integer"
    else:
        type_ = next(type_ for type_, kind in KINDS.items() if kind == part.kind)  # type: ignore[misc]
    return Column(name=name, type=type_, offset=names.offset, values=names.labels, unit=names.unit)


def text(value: Any) -> str:
    """
    >>> [text(value) for value in (None, True, 0.1 + 0.2, date(2020, 2, 29), "a")]
    ['', 'true', '0.3', '2020-02-29', 'a']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return TRUTH[value]
    return f"{value:.{SIGNIFICANT}g}" if isinstance(value, float) else str(value)


def summary(columns: Sequence[Column], gaps: int = 0) -> str:
    """The number of columns of each type, in words.

    Example:
        >>> summary([Column(name="a"), Column(name="b", type="date"), Column(name="c")], gaps=1)
        '3 columns: 2 real, 1 date; 1 with gaps'
    """
    counts = Counter(column.type for column in columns)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Type) if counts[kind])
    return f"{len(columns)} columns: {kinds}" + (f"; {gaps} with gaps" if gaps else "")


def overview(columns: Sequence[Column], x: Tensor) -> list[dict[str, str]]:
    """The name, the type, the values in words and the share of missing values of each column.

    Args:
        x: (N, D), all rows.
    """
    rows = []
    for k, column in enumerate(columns):
        known = x[:, k][~x[:, k].isnan()]
        missing = 1 - len(known) / max(1, len(x))
        row = {"column": column.name, "type": column.type, "values": values_in_words(column, known)}
        rows.append(row | {"missing": f"{missing:.1%}" if missing else ""})
    return rows


def values_in_words(column: Column, known: Tensor) -> str:
    """The range of numbers, dates and times, or the most frequent categories with their shares."""
    if not len(known):
        return ""
    if not column.values:
        low, high = column.texts_of([known.min().item(), known.max().item()])
        return f"{low} to {high}"
    counts = known.long().bincount(minlength=len(column.values))
    first = counts.sort(descending=True, stable=True).indices[:SHOWN].tolist()
    words = ", ".join(f"{column.values[k]} {float(counts[k] / len(known)):.0%}" for k in first)
    more = len(column.values) - SHOWN
    return words + (f" and {more:,} more" if more > 0 else "")


class OutOfRange(BadInput):
    """A value of the right type that is outside of the range of a column."""


class Wanted(NamedTuple):
    """The user's type of a column, and optional bounds of real numbers or integers."""

    type: str
    low: float | None = None
    high: float | None = None


def requested_types(types: str) -> dict[str, Wanted]:
    """The user's types of columns by their names, from ``name=type,name=type``.

    A name that contains a comma is written in double quotes together with its type.

    Raises:
        BadInput: If the text does not have this form.
        UnknownName: If a type does not exist.

    Example:
        >>> requested_types("zip=category, share=real 0..1")["share"]
        Wanted(type='real', low=0.0, high=1.0)
    """
    of_type("types", types, str, "write them as 'age=integer,zip=category'")
    cells = next(csv.reader([types], skipinitialspace=True), [])
    return dict(wish(cell) for cell in cells if cell.strip())


def wish(cell: str) -> tuple[str, Wanted]:
    name, equals, kind = cell.rpartition("=")
    kind, _, bounds = kind.strip().partition(" ")
    if not equals or not name.strip():
        raise BadInput(f"'{cell}' says no column's type", 'write --types "age=integer,zip=category"')
    if kind not in (*TYPES, SKIP):
        raise UnknownName.of("type of a column", kind, (*TYPES, SKIP))
    if not bounds:
        return name.strip(), Wanted(kind)
    match = re.fullmatch(r"(-?[\d.eE+-]+?)\.\.(-?[\d.eE+-]+)", bounds.strip())
    try:
        low, high = (float(end) for end in match.groups()) if match else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if kind not in ("real", "integer") or not low < high:
        wrong = f"'{bounds.strip()}' are no bounds of the {kind} column '{name.strip()}'"
        raise BadInput(wrong, 'write them as --types "share=real 0..1", of real numbers or integers')
    return name.strip(), Wanted(kind, low, high)
