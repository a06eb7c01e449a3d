"""A command as a user types it, run in this process: what it says and its exit code."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from subprocess import CompletedProcess

from dgm.cli.main import main


def dgm(arguments: str, cwd: Path) -> CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments.split())
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
