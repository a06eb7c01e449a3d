"""The output path of a command, checked before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from dgm.errors import BadInput

LONGEST_NAME = 255  # bytes in the name of a file, on common file systems


def new(name: str) -> Path:
    """The path of a new file or folder.

    Raises:
        BadInput: If it exists or cannot be created.
    """
    path = place(name)
    if path.exists():
        raise BadInput(f"{path} exists", "choose another --out, or remove it first")
    return path


def place(name: str) -> Path:
    """The path of a file or folder to write, which may exist."""
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
