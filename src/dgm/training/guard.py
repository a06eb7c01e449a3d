"""A lock, so that one process trains in a run directory, and signals, so that a stopped training is saved."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from dgm.errors import BadInput, TrainingStopped
from dgm.files import writable

BEFORE_THE_START = (".lock", "checkpoints")  # files that a training writes before its config.json


class Guard:
    """Holds the lock of a run directory and catches the first SIGINT, SIGTERM or SIGHUP; the second ends the process.

    Args:
        out: The run directory, which is created; None for no lock.
        fresh: Whether the directory must not exist, or may only have files of a training that ended before it began.
        writes: Whether this process writes the files.
    """

    def __init__(self, out: Path | None, *, fresh: bool, writes: bool) -> None:
        self.out, self.fresh, self.writes = out, fresh, writes
        self.stopped = False
        self.number: int = signal.SIGTERM  # of the signal; another process may have caught it
        self._lock: int | None = None
        self._made: Path | None = None  # the topmost folder that did not exist
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Guard:
        if self.out is not None and self.writes:
            self.lock(self.out)
        if self.out is not None and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_IGN:  # nohup ignores the signal
                    continue
                self._handlers[number] = signal.signal(number, self.stop)
        return self

    def lock(self, out: Path) -> None:
        """Takes the lock. The kernel releases it when the process ends, so a killed process leaves no lock."""
        if self.fresh:
            refuse_taken(out)
        missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        with writable(out):
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError:
                remove_empty(missing)
                raise
            self._made = missing[-1] if missing else None
            self._lock = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            wrong = f"another training is writing to {out}"
            raise TrainingStopped(wrong, "wait for it, or choose another --out") from error

    def withdraw(self) -> None:
        """Removes the folders that this training created, since it failed before it had a result."""
        if self._made is not None and self.out is not None:
            shutil.rmtree(self.out, ignore_errors=True)
            remove_empty([folder for folder in self.out.parents if folder.is_relative_to(self._made)])

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped, self.number = True, number
        for caught, handler in self._handlers.items():
            signal.signal(caught, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._lock is not None:
            os.close(self._lock)


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes the empty ones of these folders, the innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def refuse_taken(out: Path) -> None:
    """
    Raises:
        BadInput: If the folder is there and has more than a training that ended before it began.
    """
    if out.exists() and not is_blank(out):
        raise BadInput(f"{out} exists", f"choose another --out, or go on with: dgm train --resume {out}")


def is_blank(out: Path) -> bool:
    return out.is_dir() and all(e.name in BEFORE_THE_START or e.name.endswith(".tmp") for e in out.iterdir())
