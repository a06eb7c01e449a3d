"""Tables on stdout; progress on stderr, as a bar on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from rich.console import Console

REDRAW_SECONDS = 0.1
LOG_SECONDS = 10.0


class Stdout(Console):
    """The console for tables. A closed pipe raises an error that `dgm.cli.main` handles, as for printed text."""

    def on_broken_pipe(self) -> None:
        raise  # the current error


class Progress:
    """The progress of a long computation: a bar with the speed and the remaining time, or a line every few seconds.

    It is written to stderr, since it is not part of a command's output; the computation continues if stderr is closed.

    Example:
        >>> with Progress("vae", quiet=True) as progress:
        ...     progress.update(0.5, "step 50")
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        # a command that only prints a table starts without these
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

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
        """Whether the next update is shown, so that callers format no text in vain."""
        return not self.quiet and self.late()

    def late(self) -> bool:
        return time.monotonic() - self._last >= (REDRAW_SECONDS if self.terminal else LOG_SECONDS)

    def update(self, fraction: float, text: str = "") -> None:
        """Updates the bar; without a bar, a line is printed every few seconds and at the end."""
        late, now = self.late(), time.monotonic()
        if late:
            self._last = now
        with contextlib.suppress(OSError):  # the terminal may be closed, and the work continues
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
