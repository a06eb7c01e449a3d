"""Times of the day as numbers: minutes, seconds or milliseconds since midnight.

>>> number_of("08:30", 60_000), text_of(510, 60_000), text_of(30_600, 1_000)
(510.0, '08:30', '08:30:00')
"""

from __future__ import annotations

import math
from datetime import datetime, time, timedelta

DAY = 24 * 60 * 60 * 1_000  # milliseconds
UNITS = {60_000: "minutes", 1_000: "seconds", 1: "milliseconds"}  # in milliseconds, the coarsest first


def time_of(number: float, unit: int) -> time:
    """The time of the day that is ``number`` units of ``unit`` milliseconds after midnight, modulo a day."""
    return (datetime.min + timedelta(milliseconds=int(number) * unit % DAY)).time()


def text_of(number: float, unit: int) -> str:
    """The time with as many digits as the unit asks for."""
    return time_of(number, unit).isoformat(timespec=UNITS[unit])


def number_of(text: str, unit: int) -> float:
    """The units since midnight, the inverse of `text_of`; NaN if the text is not a time of the day.

    Example:
        >>> number_of("8:30:30", 60_000), number_of("25:00", 60_000)
        (510.5, nan)
    """
    try:
        found = time.fromisoformat(f"0{text}" if text[1:2] == ":" else text)
    except ValueError:
        return math.nan
    if found.tzinfo is not None:
        return math.nan
    seconds = 3_600 * found.hour + 60 * found.minute + found.second
    return (1_000_000 * seconds + found.microsecond) / (1_000 * unit)
