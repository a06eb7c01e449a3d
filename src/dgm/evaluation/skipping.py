"""Records the failure of one measure, so that the others still run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dgm.errors import Interrupted, one_line


class Skipped(list[dict[str, str]]):
    """The measures that failed, each with its name ``what`` and the ``reason``."""

    @contextmanager
    def on_failure(self, what: str) -> Iterator[None]:
        """Catches and records an error of the block; a request to stop is raised."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            self.add(what, one_line(error))

    def add(self, what: str, reason: str) -> None:
        self.append({"what": what, "reason": reason})
