"""Tables on stdout; progress on stderr: a bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

REDRAW_SECONDS = 0.1
LOG_SECONDS = 10.0


class Stdout(Console):
    """Where a command's tables go. A reader that has gone is `dgm.cli.main`'s business, as it is of what is printed."""

    def on_broken_pipe(self) -> None:
        raise  # the error that is being handled


class Progress:
    """One long piece of work: a bar with speed and time left, or a line every few seconds.

    It is no part of a command's output, so it goes to stderr, and work goes on where nobody reads that any more.

    Example:
        >>> with Progress("vae", quiet=True) as progress:
        ...     progress.update(0.5, "step 50")
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self.title = title
        self.quiet = quiet
        self.terminal = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._last = -float("inf")
        self._started = time.monotonic()
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.terminal,
        )
        self._task = self._bar.add_task(title, total=1.0, text="")

    def due(self) -> bool:
        """Whether there is something to show again, so that callers format no text for nothing."""
        return not self.quiet and self.late()

    def late(self) -> bool:
        return time.monotonic() - self._last >= (REDRAW_SECONDS if self.terminal else LOG_SECONDS)

    def update(self, fraction: float, text: str = "") -> None:
        """Moves the bar; where there is none, a line is printed if the last is some seconds old, and at the end."""
        late, now = self.late(), time.monotonic()
        if late:
            self._last = now
        with contextlib.suppress(OSError):  # the terminal may be gone, which is no reason to stop
            if self.terminal:
                self._bar.update(self._task, completed=fraction, text=text)
            elif (late or fraction >= 1) and not self.quiet and sys.stderr is not None:
                line = f"{self.title}: {fraction:4.0%}  {text}  {now - self._started:.0f} s"
                print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            if kind is None and self.terminal:
                self._bar.update(self._task, completed=1.0)
            self._bar.stop()
