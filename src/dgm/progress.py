"""Progress callbacks: functions of the completed fraction and a description."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


def silent(share: float, text: str) -> None:
    """Ignores the progress."""
