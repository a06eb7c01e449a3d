"""Settings a user may choose: frozen dataclasses whose fields carry their help and their range."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dgm.errors import BadInput, UnknownName

T = TypeVar("T")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A field of a settings dataclass with a one-line help and, for a number, the closed range it must lie in."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def build(cls: type[T], values: Mapping[str, Any], *, what: str) -> T:
    """``cls(**values)``, once every name, type and range has been looked at.

    Args:
        cls: A dataclass whose fields were made by `setting`.
        what: Whose settings these are, for the error: ``"vae"``, ``"training"``.

    Raises:
        UnknownName: For a key that is no field, with the nearest.
        BadInput: For a value of the wrong type or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    chosen = {}
    for name, value in values.items():
        if name not in fields:
            raise UnknownName.of(f"option of {what}", name, fields)
        chosen[name] = _checked(f"{what}'s {name}", value, hints[name], fields[name].metadata)
    return cls(**chosen)


def seconds(text: str) -> float:
    """A stretch of time such as ``60s``, ``5m``, ``2h`` or ``90``, in seconds.

    Example:
        >>> seconds("2m")
        120.0
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        return float(number) * UNITS[unit]
    except ValueError as error:
        raise BadInput(f"'{text}' is no stretch of time", "write it like 60s, 5m or 2h") from error


def _checked(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    if hint is float and type(value) is int:
        value = float(value)
    if not _matches(value, hint):
        choices = " or ".join(map(str, get_args(hint)))
        wanted = choices if get_origin(hint) is Literal else getattr(hint, "__name__", str(hint))
        raise BadInput(f"{name} must be {wanted}, got {value!r}", "change it")
    low, high = metadata.get("low"), metadata.get("high")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)):
            continue
        if (low is not None and not number >= low) or (high is not None and not number <= high):
            bounds = (
                f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
            )
            raise BadInput(f"{name} must be {bounds}, got {number}", "change it")
    return value


def _matches(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        inner = arguments[:1] * len(value) if isinstance(value, tuple) and arguments[-1] is Ellipsis else arguments
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_matches, value, inner))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint if hint is not Any else True
