"""Progress callbacks: functions of the completed fraction and a description."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


def silent(share: float, text: str) -> None:
    """Ignores the progress."""


def within(progress: Progress, start: float, size: float) -> Progress:
    """The callback of a part of a computation, from the fraction ``start`` on."""
    return lambda share, text: progress(start + size * share, text)


class Remaining:
    """Reports the completed fraction of ``total`` equal pieces of work, and the time that the others will take.

    Example:
        >>> work = Remaining(lambda share, text: print(f"{share:.0%} {text.partition(',')[0]}"), 4, "chains")
        >>> work.done(3)
        75% chains
    """

    def __init__(self, progress: Progress, total: int, text: str) -> None:
        self.progress, self.total, self.text = progress, total, text
        self.pieces, self.started = 0, time.monotonic()

    def done(self, pieces: int) -> None:
        self.pieces += pieces
        seconds = (time.monotonic() - self.started) * (self.total / self.pieces - 1)
        left = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        self.progress(self.pieces / self.total, f"{self.text}, about {left} left")
