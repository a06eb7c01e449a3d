"""A command as a user types it, run in this process: what it says and its exit code."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

from dgm.cli.main import main

BANK = Path(__file__).parent.parent / "examples" / "bank.py"


def dgm(arguments: str | Sequence[str], cwd: Path) -> CompletedProcess[str]:
    words = arguments.split() if isinstance(arguments, str) else arguments
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as ended:  # as --help ends
            code = int(ended.code or 0)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def with_bank(folder: Path, rows: int, *commands: str) -> Path:
    """The folder, with a table of so many customers in bank.csv, and with the runs of these commands."""
    subprocess.run([sys.executable, BANK, folder / "bank.csv", "--rows", str(rows)], check=True, capture_output=True)
    for arguments in commands:
        done = dgm(arguments, folder)
        assert done.returncode == 0, done.stderr
    return folder
