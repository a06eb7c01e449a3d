"""The types of numeric options, with plain errors for values that are not numbers, not finite or out of range."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from dgm import settings
from dgm.inputs import SEEDS

N = TypeVar("N", int, float)

MOST_STEPS = 100_000  # sampling steps or solver steps


def whole(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """The type of an option whose value is an integer from ``low`` to ``high``.

    Example:
        >>> whole(low=1)("64")
        64
    """
    return lambda text: checked(text, int, low, high)


def real(low: float | None = None, high: float | None = None) -> Callable[[str], float]:
    """The type of an option whose value is a finite number from ``low`` to ``high``."""
    return lambda text: checked(text, float, low, high)


def checked(text: str, kind: type[N], low: float | None, high: float | None) -> N:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {settings.in_words(kind)}, got '{text}'") from None
    if wanted := settings.refused(value, low, high):
        raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")
    return value


def seed() -> Callable[[str], int]:
    return whole(0, SEEDS)
