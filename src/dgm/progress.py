"""How long work tells how far it is: it calls a function with the share that is done and a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


def silent(share: float, text: str) -> None:
    """Progress that nobody looks at."""


def within(progress: Progress, start: float, size: float) -> Progress:
    """Progress of a part of the work, told as the share of all of it.

    Example:
        >>> within(lambda share, text: print(share, text), 0.5, 0.25)(1.0, "sampled")
        0.75 sampled
    """
    return lambda share, text: progress(start + size * share, text)
