"""Download of named data sets: each file once, resumed after an interruption, checked by its hash, moved atomically."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dgm.data.table import RemoteFile, Spec, folder_of, roots
from dgm.errors import BadInput

BLOCK = 1 << 18
TIMEOUT_SECONDS = 30


def fetch(name: str, spec: Spec, root: str | Path | None = None) -> Path:
    """The folder with the files of a named set, which are downloaded if no root has them.

    Raises:
        BadInput: If the network fails or a file differs from the published one.
    """
    folder = folder_of(spec, root)
    if folder is not None:
        return folder
    folder = roots(root)[0 if root is not None else -1] / spec.folder
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        # another process may have downloaded it while this one waited
        for file in spec.files if folder_of(spec, folder.parent) is None else ():
            archive = folder / file.name
            if not archive.is_file():
                with progress(f"{name}: {file.name}", file.size) as advanced:
                    download(file, archive, advanced)
            if file.unpacks_to:
                unpack(archive, file.unpacks_to)
    return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A lock for one process at a time. The kernel releases it when the process ends."""
    with (folder / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, since a program may read stdout; yields the function that sets the number of bytes."""
    text, bar, console = TextColumn("{task.description}"), BarColumn(), Console(stderr=True)
    with Progress(text, bar, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as shown:
        task = shown.add_task(what, total=size)
        yield lambda done: shown.update(task, completed=done)


def unpack(archive: Path, names: Sequence[str]) -> None:
    """Extracts the named files beside the archive, each of them atomically, and removes the archive."""
    folder = archive.parent
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch, tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / name).replace(folder / name)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        wrong = f"{archive} is not the published archive: {error}"
        raise BadInput(wrong, "remove it, and it is downloaded again") from error
    archive.unlink()


def download(file: RemoteFile, out: Path, advanced: Callable[[int], None] = lambda done: None) -> None:
    """Writes ``out``; an interrupted download resumes from ``out.part``."""
    part = out.with_name(out.name + ".part")
    try:
        receive(file, part, advanced)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        wrong = f"{file.name} could not be downloaded from {file.address}: {getattr(error, 'reason', error)}"
        raise BadInput(wrong, f"run it again to go on, or put the file into {out.parent} yourself") from error
    have = part.stat().st_size
    if have < file.size:
        raise BadInput(f"{file.name} was cut after {have:,} of {file.size:,} bytes", "run it again to go on")
    got = digest(part, file.algorithm)
    if got != file.digest:
        part.unlink()
        wrong = f"{file.name} came with {file.algorithm} {got}, the published file has {file.digest}"
        raise BadInput(wrong, "run it again; if it fails again, report it to dgm's authors")
    part.replace(out)


def receive(file: RemoteFile, part: Path, advanced: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:
        return
    request = urllib.request.Request(file.address, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        resumed = response.status == 206  # a server without ranges answers 200, with the whole file
        with part.open("ab" if resumed else "wb") as out:
            while block := response.read(BLOCK):
                out.write(block)
                advanced(out.tell())
            out.flush()
            os.fsync(out.fileno())


def digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
