"""The types of a table's columns, inferred or specified by the user, and their values as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pyarrow
import pyarrow.compute as arrow

from dgm.data.columns import DIGITS, MISSING, TRUTH, Column, Wanted
from dgm.errors import BadInput
from dgm.space import Space
from dgm.time_of_day import UNITS, number_of

LARGEST = float(numpy.finfo(numpy.float32).max)
FEW, OFTEN = 20, 10  # a column with at most FEW distinct whole numbers, each OFTEN times on average, is of integers
WIDEST = 2**31  # levels of a column of integers; a column of a wider range is real
LONGEST = 100  # characters in the name of a column
MANY = 50  # from this number of distinct texts on, a column of mostly distinct texts is not of categories
DATE, TEXT, REAL, WHOLE = pyarrow.date32(), pyarrow.string(), pyarrow.float64(), pyarrow.int64()
TIME = pyarrow.time32("ms")
TIMES = r"^([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?$"  # 8:30 and 08:30:10.5 too, which are texts to pyarrow


@dataclass(frozen=True)
class Part:
    """A column with its space and its numbers, (N,) float64 with NaN for missing values."""

    column: Column
    space: Space
    x: numpy.ndarray
    inferred: bool = True

    @property
    def numbers(self) -> numpy.ndarray:
        """The numbers of the table."""
        return self.x + self.column.offset

    @property
    def counted(self) -> bool:
        """Whether the column needs a record: it has missing values or bounds, or its values are not real numbers."""
        if self.space.optional or self.space.bounds or self.column.type not in ("real", "integer"):
            return True
        if self.column.type == "real":
            return False
        different = len(numpy.unique(self.x))
        return not self.inferred or (different <= FEW and different * OFTEN <= len(self.x))


def part_of(what: str, name: str, values: Any, wanted: Wanted | None, first: int) -> Part:
    """The column ``name`` with the inferred type, or with the type that the user specifies.

    Args:
        what: The column's name in messages of errors.
        first: The number of its first row.
    """
    if len(name) > LONGEST:
        raise BadInput(f"{what} has a name of {len(name)} characters", f"shorten it to {LONGEST}")
    values = plain(what, name, values)
    known = values.drop_null()
    if not len(known):
        raise BadInput(f"{what} holds nothing", f'leave it out: --types "{name}=skip"')
    kind = type_of(what, name, known, len(values)) if wanted is None else wanted.type
    gaps = values.null_count > 0
    if wanted is None and len(known.unique()) == 1:
        if not gaps:
            raise unchanging(what, name)
        kind = "category"  # the only value is present or missing
    part: Part = MADE[kind](what, name, values, wanted or Wanted(kind), first)
    return replace(part, space=replace(part.space, optional=gaps), inferred=wanted is None)


def unchanging(what: str, name: str) -> BadInput:
    return BadInput(f"{what} never changes", f'leave it out: --types "{name}=skip"')


def type_of(what: str, name: str, known: Any, n: int) -> str:
    """The type of a column from its values without the missing ones."""
    if known.type == pyarrow.bool_():
        return "boolean"
    if known.type == DATE:
        return "date"
    if pyarrow.types.is_time(known.type):
        return "time"
    if known.type == TEXT:
        if arrow.all(arrow.match_substring_regex(known, TIMES)).as_py():
            return "time"
        different = len(known.unique())
        if different > MANY and 2 * different > len(known):
            wrong = f"{what} holds {different:,} different texts in {n:,} rows, such as '{known[0].as_py()[:40]}'"
            raise BadInput(wrong, f'add --types "{name}=skip", or "{name}=category" to model them all the same')
        return "category"
    numbers = known.cast(REAL).to_numpy()
    if not numpy.array_equal(numbers, numbers.round()) or numbers.max() - numbers.min() >= WIDEST:
        return "real"
    if len(numbers) == n > MANY and numbers[0] in (0, 1) and (numpy.diff(numbers) == 1).all():
        wrong = f"{what} numbers the rows from {numbers[0]:g} to {numbers[-1]:g}"
        raise BadInput(wrong, f'leave it out: --types "{name}=skip", or model it: --types "{name}=integer"')
    return "boolean" if set(numpy.unique(numbers)) == {0.0, 1.0} else "integer"


def plain(what: str, name: str, values: Any) -> Any:
    """The values as booleans, numbers, dates, times or texts; NaN and values of other types are missing."""
    kind = values.type
    if pyarrow.types.is_dictionary(kind):
        return plain(what, name, values.cast(kind.value_type))
    if kind == pyarrow.bool_() or kind == DATE or pyarrow.types.is_time(kind):
        return values
    if pyarrow.types.is_null(kind):
        return values.cast(TEXT)
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind):
        values = arrow.utf8_trim_whitespace(values.cast(TEXT))
        return arrow.if_else(arrow.is_in(values, pyarrow.array(MISSING)), pyarrow.scalar(None, TEXT), values)
    if pyarrow.types.is_integer(kind):
        return values.cast(WHOLE, safe=False) if kind != pyarrow.uint64() else values.cast(REAL, safe=False)
    if pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind):
        values = values.cast(REAL)
        return arrow.if_else(arrow.is_nan(values), pyarrow.scalar(None, REAL), values)
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date64(kind):
        days = values.cast(DATE, safe=False)
        if not arrow.all(arrow.equal(days.cast(kind), values)).as_py():
            wrong = f"{what} holds dates with times of the day"
            raise BadInput(wrong, f'split it into a column of each, or leave it out: --types "{name}=skip"')
        return days
    wrong = f"{what} holds {kind}, expected numbers, texts, dates, times or truth values"
    raise BadInput(wrong, f'encode it, or leave it out: --types "{name}=skip"')


def reals(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    x = numbers_of(what, values, first)
    low, high = wanted.low, wanted.high
    if low is not None and high is not None:
        refuse_out_of_range(what, x, low, high)
    return Part(Column(name=name), Space.continuous((), low=low, high=high), x)


def integers(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    x = numbers_of(what, values, first)
    odd = numpy.flatnonzero(~numpy.isnan(x) & (x != x.round()))
    if len(odd):
        raise BadInput(f"{what} holds {x[odd[0]]:g} in row {odd[0] + first}, no integer", "make it real")
    low, high = wanted.low, wanted.high
    if low is None or high is None:
        low, high = float(numpy.nanmin(x)), float(numpy.nanmax(x))
    refuse_out_of_range(what, x, low, high)
    if not 1 <= high - low < WIDEST or low != int(low) or high != int(high):
        raise BadInput(f"{what} has integers from {low:g} to {high:g}", f"give at least 2 and at most {WIDEST:,}")
    return Part(Column(name=name, type="integer", offset=int(low)), Space.levels((), int(high - low) + 1), x - int(low))


def categories(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    words = values if values.type == TEXT else values.cast(TEXT)
    texts = tuple(sorted(words.drop_null().unique().to_pylist()))
    return Part(Column(name=name, type="category", values=texts), Space.categories(len(texts)), places(words, texts))


def booleans(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    words = values.cast(TEXT) if values.type != REAL else values.cast(WHOLE).cast(TEXT)
    texts = tuple(sorted(words.drop_null().unique().to_pylist()))
    for pair in (TRUTH, DIGITS):
        texts = pair if set(texts) <= set(pair) else texts
    if len(texts) != 2:
        raise BadInput(f"{what} holds {len(texts)} different values, no boolean's two", "make it a category")
    return Part(Column(name=name, type="boolean", values=texts), Space.binary(()), places(words, texts))


def dates(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    try:
        days = values.cast(DATE).cast(pyarrow.int32()).cast(REAL).to_numpy().copy()
    except pyarrow.ArrowException as error:
        raise BadInput(f"{what} contains a value that is not a date: {error}", "write dates as 2020-12-31") from error
    low, high = int(numpy.nanmin(days)), int(numpy.nanmax(days))
    if low == high:
        raise unchanging(what, name)
    column, space = Column(name=name, type="date", offset=low), Space.levels((), high - low + 1)
    if not column.fits(space):
        raise BadInput(f"{what} has dates outside the years 1 to 9999", f'leave it out: --types "{name}=skip"')
    return Part(column, space, days - low)


def times(what: str, name: str, values: Any, wanted: Wanted, first: int) -> Part:
    """In the coarsest unit that has all times of the column."""
    x = milliseconds(what, values)
    unit = next(unit for unit in UNITS if not (x[~numpy.isnan(x)] % unit).any())
    low, high = int(numpy.nanmin(x)) // unit, int(numpy.nanmax(x)) // unit
    if low == high:
        raise unchanging(what, name)
    return Part(Column(name=name, type="time", offset=low, unit=unit), Space.levels((), high - low + 1), x / unit - low)


def milliseconds(what: str, values: Any) -> numpy.ndarray:
    """(N,) since midnight; NaN for missing values."""
    remedy = "write times as 08:30, 13:45:10 or 13:45:10.250"
    if values.type != TEXT:
        try:
            x: numpy.ndarray = values.cast(TIME).cast(pyarrow.int32()).cast(REAL).to_numpy().copy()
        except pyarrow.ArrowException as error:
            raise BadInput(
                f"{what} contains a value that is not a time of the day in milliseconds: {error}", remedy
            ) from error
        return x
    texts = values.to_pylist()
    x = numpy.array([numpy.nan if text is None else number_of(text, 1) for text in texts])
    bad = next((text for text, number in zip(texts, x, strict=True) if text is not None and number % 1 != 0), None)
    if bad is not None:
        raise BadInput(f"{what} holds '{bad[:40]}', no time of the day in milliseconds", remedy)
    return x


MADE = {
    "real": reals,
    "integer": integers,
    "category": categories,
    "boolean": booleans,
    "date": dates,
    "time": times,
}


def numbers_of(what: str, values: Any, first: int) -> numpy.ndarray:
    """The values as (N,) float64 with NaN for missing values, after a check that float32, the type of a model's input,
    can represent all others.
    """
    try:
        x: numpy.ndarray = values.cast(REAL).to_numpy().copy()
    except pyarrow.ArrowException as error:
        raise BadInput(
            f"{what} contains a value that is not a number: {error}", "make it a category, or correct it"
        ) from error
    bad = numpy.flatnonzero(numpy.abs(numpy.nan_to_num(x)) >= LARGEST)
    if len(bad):
        wrong = f"{what} holds {x[bad[0]]:g} in row {bad[0] + first}, expected a number that float32 can hold"
        raise BadInput(wrong, "correct or drop it")
    return x


def refuse_out_of_range(what: str, x: numpy.ndarray, low: float, high: float) -> None:
    least, most = float(numpy.nanmin(x)), float(numpy.nanmax(x))
    if least < low or most > high:
        raise BadInput(f"{what} has values from {least:g} to {most:g}, outside {low:g}..{high:g}", "widen the bounds")


def places(words: Any, texts: Sequence[str]) -> numpy.ndarray:
    """The index of each word in ``texts``; NaN if the word is missing."""
    indices: numpy.ndarray = arrow.index_in(words, pyarrow.array(texts)).cast(REAL).to_numpy().copy()
    return indices
