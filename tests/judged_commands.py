"""Judges commands read from its input as a list, and writes those that were not refused as they should be.

A process of its own, so that a command which takes gigabytes is refused them here, and ends nothing else; and without
the checks of types that the tests put around every call, which a user does not have.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from dgm.cli.main import main

ENDLESS = 30  # seconds of the processor, after which a command is taken for one that does not end
ROOM = 2 << 30  # bytes of addresses that a command may take beside those of the process so far
# what is said besides the one line: how far it got, a return to an earlier step, and what was done with the data
ASIDE = re.compile(r"[^\n]*: +\d+%  [^\n]*\n|[^\n]*: rolled back to step [^\n]*\n|12 images have 12 sizes: [^\n]*\n")


class Endless(BaseException):
    """Raised inside a command that takes too long."""


def ring(number: int, frame: object) -> None:
    raise Endless


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, ENDLESS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def bound_memory() -> None:
    """For the next command: libraries and threads keep addresses, the more, the more cores there are."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file with its size and the time of its last change, and every folder."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (at.st_size, at.st_mtime_ns) if path.is_file() else (0, 0) for path, at in found.items()}


def verdict(command: list[str], folder: Path) -> str:
    """What a command did wrong; nothing where it was refused as it should be."""
    before, out, err = listing(folder), io.StringIO(), io.StringIO()
    bound_memory()
    try:
        with alarm(), contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
    except Endless:
        return "does not end"
    except BaseException as error:  # a traceback on a user's terminal, whatever it is
        return f"{type(error).__name__}: {error}"
    said, after = ASIDE.sub("", err.getvalue()), listing(folder)
    if after != before:
        shutil.rmtree(folder / "new", ignore_errors=True)  # it would be in the way of the next command
        return f"leaves {[str(path) for path in before.keys() ^ after.keys()][:3] or 'a file changed'}"
    if code != 2:
        return f"leaves with {code}"
    skipped = r"dgm: \S+ is skipped: [^\n]*\n" if command[:1] == ["compare"] else ""
    # out of memory is no refusal: without the bound, the machine would have run out of it
    return "" if re.fullmatch(f"({skipped})?dgm: (?!out of memory)[^\n]*; [^\n]*\n", said) else f"says {said!r}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    judged = ((" ".join(command)[:200], verdict(command, Path(sys.argv[1]))) for command in json.load(sys.stdin))
    print(json.dumps([found for found in judged if found[1]]))
