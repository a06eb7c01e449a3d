"""How long work tells how far it is: it calls a function with the share that is done and a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


def silent(share: float, text: str) -> None:
    """Progress that nobody looks at."""
