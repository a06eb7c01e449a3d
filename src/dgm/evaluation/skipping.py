"""One measure's failure, whatever it is, must not cost the others' work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dgm.errors import Interrupted, one_line


class Skipped(list[dict[str, str]]):
    """What could not be measured: ``what`` and the ``reason`` of each."""

    @contextmanager
    def on_failure(self, what: str) -> Iterator[None]:
        """An error inside ends the block alone, and is kept; a request to stop is passed on."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            self.add(what, one_line(error))

    def add(self, what: str, reason: str) -> None:
        self.append({"what": what, "reason": reason})
