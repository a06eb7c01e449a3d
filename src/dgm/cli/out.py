"""Where a command writes: whether it can is looked at before the work."""

from __future__ import annotations

import os
from pathlib import Path

from dgm.errors import BadInput

LONGEST_NAME = 255  # bytes of a file's name, on every usual file system


def new(name: str) -> Path:
    """The path of a file or a folder that is to be written and must not be there.

    Raises:
        BadInput: Where it exists, or cannot be made.
    """
    path = place(name)
    if path.exists():
        raise BadInput(f"{path} exists", "choose another --out, or remove it first")
    return path


def place(name: str) -> Path:
    """The path to write to, which may exist."""
    if not name:
        raise BadInput("--out is empty", "name a place to write to")
    path = Path(name)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise BadInput(f"--out has a name of more than {LONGEST_NAME} bytes", "choose a shorter one")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise BadInput(f"{path} cannot be written: {above.name} is a file, no folder", "choose another --out")
    if not os.access(above, os.W_OK):
        raise BadInput(f"{path} cannot be written: no permission in {above}", "choose another --out")
    return path
