"""What comes of a law: it holds, is broken, or has nothing to look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Broken(Exception):
    """What a law found, with the numbers."""


class Skipped(Exception):
    """Why a law had nothing to look at."""


class Outcome(StrEnum):
    HOLDS = "holds"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What came of one law.

    Attributes:
        detail: The numbers, or the reason why the law was skipped.
        space: The space of the model that it was looked at for, in words.
    """

    law: str
    outcome: Outcome
    detail: str
    seconds: float
    space: str = ""

    @property
    def passed(self) -> bool:
        """Whether the law looked, and found that it holds."""
        return self.outcome is Outcome.HOLDS


def require(holds: bool, detail: str) -> str:
    if not holds:
        raise Broken(detail)
    return detail
