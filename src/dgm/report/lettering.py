"""Labels of plots from names that users give: literal text, in one line, of limited length."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 24  # letters of a name


@contextmanager
def lettering(style: dict[Any, Any] | None = None) -> Iterator[None]:
    """A context in which a $ is literal text and starts no formula, and missing glyphs raise no warning."""
    import matplotlib

    with matplotlib.rc_context({**(style or {}), "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def short(name: str, longest: int = LONGEST) -> str:
    """A name in one line, without unprintable characters, truncated where it is too long.

    Example:
        >>> short("two\\nlines"), short("a very long name", 8)
        ('two lines', 'a very …')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
