"""The outcome of a law: it holds, is broken, or is skipped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Broken(Exception):
    """Raised by a law that is broken. The message has the numbers."""


class Skipped(Exception):
    """Raised by a law that does not apply to a model or its space. The message has the reason."""


class Outcome(StrEnum):
    HOLDS = "holds"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """The result of one law.

    Attributes:
        law: The statement of the law, the first line of its docstring.
        detail: The numbers, or the reason why the law was skipped.
        seconds: Duration of the check.
        space: The space of the model, in words.
    """

    law: str
    outcome: Outcome
    detail: str
    seconds: float
    space: str = ""

    @property
    def passed(self) -> bool:
        """Whether the law was checked and holds."""
        return self.outcome is Outcome.HOLDS


def require(holds: bool, detail: str) -> str:
    """The detail of a law that holds; a broken one raises `Broken` with it."""
    if not holds:
        raise Broken(detail)
    return detail
