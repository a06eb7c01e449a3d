"""The names of a condition's values, and the conversion of a condition from text to a tensor and back.

>>> attributes = Names(columns=("smiling", "glasses"))
>>> y = encode("smiling=1,glasses=0", Space.binary((2,)), attributes)
>>> y.tolist(), decode(y, Space.binary((2,)), attributes)
([1, 0], 'smiling=1,glasses=0')
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief, tensor
from dgm.space import Space
from dgm.time_of_day import DAY, UNITS, text_of
from dgm.time_of_day import number_of as number_of_time

if TYPE_CHECKING:
    from torch import Tensor

REST = "*"  # in place of a name: all dimensions that are not named
EPOCH = date(1970, 1, 1)
LARGEST, WHOLE = 3.4e38, 2**53  # of real numbers, as float32, and of whole ones, as float64
PADDING, UNKNOWN = 0, 1  # the tokens after a text's end, and of a word that the vocabulary does not have
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of a condition's values, as they are stored in a run's config.json.

    Attributes:
        labels: The names of the categories.
        columns: The names of the dimensions of a vector, or that of the column of one value.
        words: The words of a text, for the tokens from 2 on; 0 is padding and 1 is an unknown word.
        parts: The names of each part of a record.
        offset: The integer that level 0 represents.
        dates: Whether the integers are dates, as days since 1970-01-01.
        unit: The milliseconds from one integer to the next, if they are times of the day; otherwise 0.
    """

    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    parts: Mapping[str, Names] = field(default_factory=dict)
    offset: int = 0
    dates: bool = False
    unit: int = 0

    def to_json(self) -> dict[str, Any]:
        """The names as JSON, without empty entries."""
        lists = {name: list(getattr(self, name)) for name in LISTS if getattr(self, name)}
        parts = {name: names.to_json() for name, names in self.parts.items()}
        whole = {"offset": self.offset, "dates": self.dates, "unit": self.unit}
        return lists | ({"parts": parts} if parts else {}) | {name: value for name, value in whole.items() if value}

    @classmethod
    def from_json(cls, document: Any) -> Names:
        """
        Raises:
            BadInput: If the document does not have the form that `to_json` returns.
        """
        if not isinstance(document, dict) or not isinstance(document.get("parts", {}), dict):
            raise BadInput(f"names must be an object, got {brief(document)}", "give the result of Names.to_json")
        found = {name: document.get(name, []) for name in LISTS}
        for name, values in found.items():
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise BadInput(f"names: {name} must be a list of texts", "give the result of Names.to_json")
        offset, dates = document.get("offset", 0), document.get("dates", False)
        if type(offset) is not int or abs(offset) > WHOLE or type(dates) is not bool:
            raise BadInput("names: the offset must be a whole number, and dates true or false", "correct them")
        unit = document.get("unit", 0)
        if type(unit) is not int or unit not in (0, *UNITS) or (unit and not 0 <= offset * unit < DAY):
            raise BadInput("names: the unit must be that of times of the day", "give the result of Names.to_json")
        parts = {name: cls.from_json(part) for name, part in document.get("parts", {}).items()}
        lists = {name: tuple(values) for name, values in found.items()}
        return cls(**lists, parts=parts, offset=offset, dates=dates, unit=unit)

    def fit(self, space: Space) -> bool:
        """Whether there is a name for each value or dimension of ``space``, or there are no names."""
        if space.kind == "record":
            own = dict(space.parts)
            return self.parts.keys() <= own.keys() and all(self.parts[name].fit(own[name]) for name in self.parts)
        return (
            len(self.labels) in (0, space.values)
            and len(self.columns) in (0, space.dim)
            and len(self.words) in (0, (space.values or 0) - 2)
        )


LISTS = ("labels", "columns", "words")


def encode(given: Any, space: Space, names: Names) -> Tensor:
    """One condition as a tensor of the space's shape and type.

    A label is a name or a number, also after the name of its column and ``=``. Attributes, numbers and a record are
    written as ``name=value,name=value`` or given as a mapping, where ``*=value`` sets all dimensions that are not
    named; numbers may also be given in order, without names. A text is given unchanged. A value that contains a comma
    is put in double quotes. In a mapping, a part may also be an array or a list of numbers, such as an image.

    Raises:
        BadInput: If a dimension is missing or given twice, or a value is not in its space.
        UnknownName: If the condition does not have a label, a dimension or a word. The message has the nearest name.
    """
    import torch

    if space.kind == "record":
        return of_record(given, space, names)
    if space.shape and (isinstance(given, (list, tuple)) or hasattr(given, "__array__")):
        return of_numbers(given, space)
    if space.kind == "tokens" and names.words:
        return of_text(given, space, names)
    if not space.shape:
        return torch.tensor(value_of(alone(given, names), space, names)).to(space.dtype)
    if len(space.shape) == 1:
        return vector(by_name(given, names.columns), space, names)
    raise BadInput(f"a condition of {space} cannot be written, got {brief(given)}", "give a picture or an .npz file")


def encoded(y: Any, space: Space, names: Names) -> Any:
    """The tensor of one condition or of a list of conditions that are given in words; anything else unchanged.

    Example:
        >>> encoded(["cat", "dog"], Space.categories(2), Names(labels=("cat", "dog"))).tolist()
        [0, 1]
    """
    import torch

    if isinstance(y, (str, Mapping)):
        return encode(y, space, names)
    given = y.tolist() if getattr(getattr(y, "dtype", None), "kind", "") == "U" else y
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, (str, Mapping)) for one in given):
        return torch.stack([encode(one, space, names) for one in given])
    return y


def of_numbers(given: Any, space: Space) -> Tensor:
    """An array or a list of the space's shape."""
    values = tensor("the condition", given)
    if tuple(values.shape) != space.shape:
        raise BadInput(f"expected numbers of shape {space.shape}, got {tuple(values.shape)}", "give an array of it")
    return space.check((values if space.discrete else values.to(space.dtype))[None])[0].to(space.dtype)


def alone(given: Any, names: Names) -> Any:
    """The value in ``name=value``, or in a mapping, if the name is that of the column; anything else unchanged.

    Example:
        >>> alone("species=setosa", Names(columns=("species",))), alone("setosa", Names(columns=("species",)))
        ('setosa', 'setosa')
    """
    named = isinstance(given, Mapping) or (isinstance(given, str) and given not in names.labels and "=" in given)
    if not names.columns or not named:
        return given
    (value,) = complete(by_name(given, names.columns), names.columns).values()
    return value


def value_of(given: Any, space: Space, names: Names) -> float | int:
    """One value of a dimension of ``space``."""
    text = str(int(given)) if isinstance(given, bool) else str(given).strip()
    if space.kind == "categories" or (space.kind == "binary" and names.labels):
        return number_of(text, names.labels or tuple(map(str, range(space.values or 0))))
    number = number_in(text, names)
    low, high = (0, (space.values or 0) - 1) if space.discrete else space.bounds or (-LARGEST, LARGEST)
    if not low <= number <= high or (space.discrete and number != int(number)):
        whole = "a date" if names.dates else "a time" if names.unit else "a whole number"
        wanted = whole if space.discrete else "a number"
        if abs(high) < LARGEST:
            say = written(space, names)
            wanted = "0 or 1" if space.kind == "binary" else f"{wanted} from {say(low)} to {say(high)}"
        raise BadInput(f"'{text}' is not a value of the condition, expected {wanted}", "give another")
    return int(number) if space.discrete else number


def number_in(text: str, names: Names) -> float:
    """The number that a text represents; NaN for an empty text."""
    if names.unit:
        return number_of_time(text, names.unit) - names.offset
    try:
        if names.dates:
            return (date.fromisoformat(text) - EPOCH).days - names.offset
        return float(text) - names.offset
    except ValueError:
        return math.nan


def number_of(label: str, labels: Sequence[str]) -> int:
    """The number of a label, by its name or, if no label has this name, by its number.

    Example:
        >>> number_of("cat", ["cat", "dog"]), number_of("1", ["cat", "dog"])
        (0, 1)
    """
    if label in labels:
        return list(labels).index(label)
    if label.isascii() and label.isdigit() and int(label) < len(labels):
        return int(label)
    raise UnknownName.of("label of this run", label, labels)


def by_name(given: Any, columns: Sequence[str]) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else pairs(str(given), columns)


def pairs(given: str, columns: Sequence[str]) -> dict[str, str]:
    """The values of ``name=value,name=value`` by name, or of as many values in the columns' order.

    Example:
        >>> pairs('age=3, note="a, b"', ["age", "note"])
        {'age': '3', 'note': 'a, b'}
    """
    cells = [cell for cell in split_by_commas(given) if cell]
    if not any("=" in cell for cell in cells):
        return {(columns[k] if k < len(columns) else f"{k}"): cell for k, cell in enumerate(cells)}
    found: dict[str, str] = {}
    for cell in cells:
        name, equals, value = (part.strip() for part in cell.partition("="))
        if not equals:
            raise BadInput(f"'{cell}' in the condition has no '='", f"write it as {example(columns)}")
        if name in found:
            raise BadInput(f"the condition gives '{name}' twice", "give it once")
        found[name] = value
    return found


def split_by_commas(given: str) -> list[str]:
    """The cells, without the quotes around a cell or around the value after its ``=``."""
    quoted = re.sub(r'(?:(?<=,)|^)(\s*)([^",=]+)=\s*"([^"]*)"', r'\1"\2=\3"', given)
    try:
        return [cell.strip() for row in csv.reader([quoted], skipinitialspace=True, strict=True) for cell in row]
    except csv.Error as error:
        raise BadInput(f"the condition '{given}' cannot be read: {error}", "close its quotes") from error


def example(columns: Sequence[str]) -> str:
    return ",".join(f"{name}=…" for name in list(columns)[:2] or ["name"])


def vector(given: Mapping[str, Any], space: Space, names: Names) -> Tensor:
    """(D,) values, each by its name or its number."""
    import torch

    columns = names.columns or tuple(map(str, range(space.dim)))
    chosen = complete(given, columns)

    def value(name: str) -> float | int:
        try:
            return value_of(chosen[name], space, names)
        except BadInput as error:
            raise BadInput(f"{name}: {str(error).rpartition('; ')[0]}", "give another value") from error

    return torch.tensor([value(name) for name in columns]).to(space.dtype)


def complete(given: Mapping[str, Any], columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The value of each column; ``*`` sets all columns that are not named, and those in ``optional`` may be missing."""
    for name in given:
        if name not in columns and name != REST:
            raise UnknownName.of("part of the condition", name, columns)
    missing = [name for name in columns if name not in given and REST not in given and name not in optional]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise BadInput(f"the condition lacks {shown}", f"give each of them, or {REST}=0 for all that are not named")
    return {name: given.get(name, given.get(REST)) for name in columns}


def words_of(text: str) -> list[str]:
    """The words and the signs of a text, in small letters.

    Example:
        >>> words_of("A red seven!")
        ['a', 'red', 'seven', '!']
    """
    return WORD.findall(text.casefold())


def of_text(given: Any, space: Space, names: Names) -> Tensor:
    """(L,) tokens."""
    words = words_of(str(given))
    if len(words) > space.dim:
        raise BadInput(f"the text has {len(words)} words, expected at most {space.dim}", "shorten it")
    number = {word: k + 2 for k, word in enumerate(names.words)}
    unknown = next((word for word in words if word not in number), None)
    if unknown is not None:
        raise UnknownName.of("word of this run's texts", unknown, names.words)
    return tokens([words], space.dim, number)[0]


def tokens(texts: Sequence[Sequence[str]], length: int, number: Mapping[str, int]) -> Tensor:
    """(N, length): each text's words by number, cut or filled up."""
    import torch

    found = torch.full((len(texts), length), PADDING, dtype=torch.int64)
    for row, words in zip(found, texts, strict=True):
        numbers = [number.get(word, UNKNOWN) for word in words[:length]]
        row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return found


def of_record(given: str | Mapping[str, Any], space: Space, names: Names) -> Tensor:
    """(D,) the parts of a record side by side; NaN for a part that is missing and may be."""
    import torch

    parts = dict(space.parts)
    optional = [name for name, part in parts.items() if part.optional]
    held = complete(pairs(given, list(parts)) if isinstance(given, str) else given, list(parts), optional)

    def part_of(name: str, value: Any) -> Tensor:
        of_part = names.parts.get(name, Names())
        empty = isinstance(value, str) and not value and not of_part.words
        if value is None or empty or (isinstance(value, float) and math.isnan(value)):
            if name not in optional:
                raise BadInput(f"the condition has no value of {name}", "give one")
            return torch.full((1, parts[name].dim), torch.nan)
        try:
            return encode(value, parts[name], of_part)[None]
        except BadInput as error:
            raise BadInput(f"{name}: {str(error).rpartition('; ')[0]}", "give another value") from error

    return space.join({name: part_of(name, value) for name, value in held.items()})[0]


def decode(y: Tensor, space: Space, names: Names) -> str:
    """One condition in the form that `encode` accepts; an empty text for an image."""
    if space.kind == "record":
        own = dict(space.parts)
        parts = {
            name: decode(part[0], own[name], names.parts.get(name, Names()))
            for name, part in space.split(y[None]).items()
            if not part.isnan().any()
        }
        return ",".join(f'{name}="{value}"' if "," in value else f"{name}={value}" for name, value in parts.items())
    if space.kind == "tokens" and names.words:
        return " ".join(names.words[k - 2] if k > 1 else "?" for k in y.tolist() if k != PADDING)
    if len(space.shape) > 1:
        return ""
    say = written(space, names)
    values = [say(value) for value in y.flatten().tolist()]
    if not names.columns or not space.shape:
        return ",".join(values)
    return ",".join(f"{name}={value}" for name, value in zip(names.columns, values, strict=True))


def written(space: Space, names: Names) -> Callable[[float], str]:
    if names.labels:
        return lambda value: names.labels[int(value)]
    if names.dates:
        return lambda value: (EPOCH + timedelta(days=int(value) + names.offset)).isoformat()
    if names.unit:
        return lambda value: text_of(value + names.offset, names.unit)
    return lambda value: str(int(value) + names.offset) if space.discrete else f"{value:.8g}"
