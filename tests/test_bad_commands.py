"""Every bad command says so in one line, leaves with 2 and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_commands import commands, prepare

from dgm.cli.main import main

# numpy leaves a torn .npz file to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ENDLESS = 20  # seconds, after which a command is taken for one that does not end
PROGRESS = re.compile(r"[^\n]*: +\d+%  [^\n]*\n")
EVERY = 29  # of the commands, one is tried in the quick suite


class Endless(BaseException):
    """Raised inside a command that takes too long."""


def ring(number: int, frame: object) -> None:
    raise Endless


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(ENDLESS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    prepare(folder)
    return folder


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file with its size and the time of its last change, and every folder."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (at.st_size, at.st_mtime_ns) if path.is_file() else (0, 0) for path, at in found.items()}


def verdict(command: list[str], folder: Path) -> str:
    """What a command did wrong; nothing where it was refused as it should be."""
    before, out, err = listing(folder), io.StringIO(), io.StringIO()
    try:
        with alarm(), contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
    except Endless:
        return "does not end"
    except BaseException as error:  # a traceback on a user's terminal, whatever it is
        return f"{type(error).__name__}: {error}"
    said, after = PROGRESS.sub("", err.getvalue()), listing(folder)
    if after != before:
        return f"leaves {[str(path) for path in before.keys() ^ after.keys()][:3] or 'a file changed'}"
    if code != 2:
        return f"leaves with {code}"
    skipped = r"dgm: \S+ is skipped: [^\n]*\n" if command[:1] == ["compare"] else ""
    return "" if re.fullmatch(f"({skipped})?dgm: [^\n]*; [^\n]*\n", said) else f"says {said!r}"


def wrong(tried: list[list[str]], folder: Path) -> list[tuple[str, str]]:
    judged = ((" ".join(command)[:200], verdict(command, folder)) for command in tried)
    return [(command, verdict) for command, verdict in judged if verdict]


def test_there_are_many_and_some_of_all_verbs_are_refused(folder: Path) -> None:
    found = commands()
    assert len(found) >= 600
    assert wrong(found[::EVERY], folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(EVERY - 1))
def test_all_are_refused(folder: Path, part: int) -> None:
    assert wrong(commands()[part + 1 :: EVERY], folder) == []
