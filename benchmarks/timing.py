"""Times two sides in turn, so that their ratio holds where the machine's pace drifts, and prints figures."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

UNITS = {"s": 1.0, "ms": 1e3}


def no_arguments(about: str | None) -> None:
    """Prints what a script measures for --help, and refuses any argument, before it measures for minutes."""
    argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def in_turn(
    name: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    rounds: int,
    unit: str = "s",
    of: Callable[[Iterable[float]], float] = statistics.median,
) -> None:
    """A figure of what both sides give, in seconds, each round: ``of`` all rounds."""
    times = [(ours(), peer()) for _ in range(rounds)]
    figure(name, *(UNITS[unit] * of(column) for column in zip(*times, strict=True)), unit)


def figure(name: str, ours: float, peer: float, unit: str, ratio: float | None = None) -> None:
    """One line of JSON, which `run.py` reads."""
    ratio = ours / peer if ratio is None else ratio
    print(json.dumps({"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit}), flush=True)
