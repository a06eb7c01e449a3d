"""Every bad command says so in one line, leaves with 2 and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bad_commands import commands, prepare

PARTS = 4  # of the slow test, each a process that imports everything once
EVERY = 60  # of the commands, one is tried in the quick suite
JUDGE = Path(__file__).with_name("judged_commands.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    prepare(folder)
    return folder


def wrong(tried: list[list[str]], folder: Path) -> list[list[str]]:
    """The commands that were not refused as they should be, and what they did, as a process of its own saw it."""
    done = subprocess.run([sys.executable, JUDGE, folder], input=json.dumps(tried), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_there_are_many_and_some_of_all_verbs_are_refused(folder: Path) -> None:
    """Kills besides: a judge that is content with anything."""
    found = commands()
    assert len(found) >= 600
    assert wrong([["data", "digits"], *found[::EVERY]], folder) == [["data digits", "leaves with 0"]]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_are_refused(folder: Path, part: int) -> None:
    assert wrong(commands()[part::PARTS], folder) == []
