"""Progress on a terminal, and as plain lines where stdout is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

REDRAW_SECONDS = 0.1
LOG_SECONDS = 10.0


class Progress:
    """One long piece of work: a bar with speed and time left, or a log line now and then.

    Example:
        >>> with Progress("vae", quiet=True) as progress:
        ...     progress.update(0.5, "step 50")
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self.title = title
        self.quiet = quiet
        self.terminal = sys.stdout.isatty() and not quiet
        self._last = -float("inf")
        self._started = time.monotonic()
        self._shown = (0.0, "")
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(),
            disable=not self.terminal,
        )
        self._task = self._bar.add_task(title, total=1.0, text="")

    def due(self) -> bool:
        """Whether there is something to show again, so that callers format no text for nothing."""
        every = REDRAW_SECONDS if self.terminal else LOG_SECONDS
        return not self.quiet and time.monotonic() - self._last >= every

    def update(self, fraction: float, text: str = "") -> None:
        self._last = time.monotonic()
        self._shown = (fraction, text)
        if self.terminal:
            self._bar.update(self._task, completed=fraction, text=text)
        elif not self.quiet:
            seconds = time.monotonic() - self._started
            print(f"{self.title}: {fraction:4.0%}  {text}  {seconds:.0f} s", flush=True)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.terminal:
            self._bar.update(self._task, completed=1.0)
        self._bar.stop()
