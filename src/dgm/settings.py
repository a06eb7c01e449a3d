"""Settings: frozen dataclasses whose fields have a help text and a range."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dgm.errors import BadInput, UnknownName
from dgm.inputs import brief, plain

T = TypeVar("T")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 3.2e7  # seconds, a year
LARGEST_WHOLE = 2**63  # larger integers do not fit into a tensor
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A field of a settings dataclass with a one-line help and, for a number, its closed range."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def build(
    cls: type[T], values: Mapping[str, Any], *, what: str, defaults: Mapping[str, Any] = types.MappingProxyType({})
) -> T:
    """``cls(**values)``, after a check of every name, type and range.

    Args:
        cls: A dataclass whose fields were made by `setting`.
        what: The owner of the settings, for the error message: ``"vae"``, ``"training"``.
        defaults: The owner's own defaults in the place of the fields', for the same.

    Raises:
        UnknownName: If there is no such field. The message has the nearest name.
        BadInput: If a value has the wrong type, is not finite or is out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    chosen = {}
    for name, value in values.items():
        if name not in fields:
            raise UnknownName.of(f"option of {what}", name, fields)
        default = defaults.get(name, fields[name].default)
        remedy = "leave it out" if default is None else f"its default is {default}"
        chosen[name] = _checked(f"{what}'s {name}", value, hints[name], fields[name], remedy)
    return cls(**chosen)


def seconds(text: str) -> float:
    """The seconds of a duration such as ``60s``, ``5m``, ``2h`` or ``90``.

    Raises:
        BadInput: If the text is not a duration, or the duration is not positive or longer than a year.

    Example:
        >>> seconds("2m")
        120.0
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        found = float(number) * UNITS[unit]
    except ValueError as error:
        raise BadInput(f"'{text}' is not a duration", "write it like 60s, 5m or 2h") from error
    if not 0 < found <= LONGEST:
        raise BadInput(f"a time must be above 0 and at most a year, got '{text}'", "write it like 60s, 5m or 2h")
    return found


def in_words(hint: Any) -> str:
    """A description of the values of a type hint.

    Example:
        >>> in_words(int | None)
        'a whole number'
        >>> in_words(tuple[float, float])
        '2 numbers such as [0.9, 0.999]'
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return (
            "numbers such as [2, 4]" if arguments[-1] is Ellipsis else f"{len(arguments)} numbers such as [0.9, 0.999]"
        )
    return "settings by name" if origin is dict else KINDS.get(hint, str(hint))


def refused(value: float, low: float | None, high: float | None) -> str:
    """The requirement that a number fails, to be finite or within the closed range; empty if it meets both.

    Example:
        >>> refused(0, 1, None), refused(2.0, 0, 1), refused(math.nan, None, None), refused(3, 1, None)
        ('at least 1', 'from 0 to 1', 'a finite number', '')
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if (low is None or value >= low) and (high is None or value <= high):
        return ""
    return f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"


def _checked(name: str, value: Any, hint: Any, field: dataclasses.Field[Any], remedy: str) -> Any:
    value = plain(tuple(value) if isinstance(value, list) else value)
    if hint is float and type(value) is int:
        value = float(value) if abs(value) < LARGEST_WHOLE else math.inf
    if not _matches(value, hint):
        raise BadInput(f"{name} must be {in_words(hint)}, got {brief(value)}", remedy)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)):
            if wanted := refused(number, field.metadata.get("low"), field.metadata.get("high")):
                raise BadInput(f"{name} must be {wanted}, got {number}", remedy)
            if isinstance(number, int) and abs(number) >= LARGEST_WHOLE:
                raise BadInput(f"{name} must be below 2^63, got {number}", remedy)
    return value


def _matches(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return type(value) is dict
    if origin is tuple:
        inner = arguments[:1] * len(value) if isinstance(value, tuple) and arguments[-1] is Ellipsis else arguments
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_matches, value, inner))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint if hint is not Any else True
