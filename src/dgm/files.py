"""Files that are there whole or not at all: written under a temporary name, flushed to the disk and renamed."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors

from dgm.errors import BadInput, in_one_line


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A temporary path next to ``out`` for a file or a folder, which is renamed to ``out`` when it is complete.

    Temporary files of ``out`` from a killed process are removed first.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with writable(out):
        try:
            sweep(out.parent, f".{glob.escape(out.name)}.*.tmp")
            yield temporary
            for path in [*temporary.rglob("*"), temporary] if temporary.is_dir() else [temporary]:
                flush(path)
            temporary.replace(out)
            flush(out.parent)
        finally:
            remove(temporary)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """A context in which a full disk or a missing permission raises an error of one line."""
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        raise BadInput(f"{path} cannot be written: {reason}", "make room there or get permission") from error


def flush(path: Path) -> None:
    """Waits until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, pattern: str = "*.tmp") -> None:
    """Removes temporaries whose name ends in the number of a process that is no longer there."""
    for found in folder.glob(pattern):
        number = found.stem.rpartition(".")[2]
        if number.isdecimal() and not is_alive(int(number)):
            remove(found)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is there, and another user's
        return True
    return True


def remove(path: Path) -> None:
    """A file, a link or a whole folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(document: Any, out: Path) -> None:
    with replacing(out) as temporary:
        temporary.write_text(in_json(document), encoding="utf-8")


def in_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
