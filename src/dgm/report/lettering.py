"""Names that users give, as matplotlib writes them: as they are, in one line, not too long."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 24  # letters of a name


@contextmanager
def lettering(style: dict[Any, Any] | None = None) -> Iterator[None]:
    """Inside, a $ in a text is a $ and starts no formula; a letter that the font lacks is drawn as a box, unsaid."""
    import matplotlib

    with matplotlib.rc_context({**(style or {}), "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def short(name: str, longest: int = LONGEST) -> str:
    """In one line, without what cannot be printed, and cut where it is too long.

    Example:
        >>> short("two\\nlines"), short("a very long name", 8)
        ('two lines', 'a very …')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
