"""Named sets that are not here are downloaded once: resumed if cut, checked by hash, put in place whole."""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dgm.data.table import RemoteFile, Spec, found, roots
from dgm.errors import BadInput

BLOCK = 1 << 18
TIMEOUT_SECONDS = 30


def fetch(name: str, spec: Spec, root: str | Path | None = None) -> Path:
    """The folder that holds the files of a named set, downloaded where no root has them.

    Raises:
        BadInput: When the network fails or a file is not the published one.
    """
    folder = found(spec, root)
    if folder is not None:
        return folder
    folder = roots(root)[0 if root is not None else -1] / spec.folder
    folder.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for file in spec.files:
            if not (folder / file.name).is_file():
                task = progress.add_task(f"{name}: {file.name}", total=file.size)
                download(file, folder / file.name, lambda done, task=task: progress.update(task, completed=done))  # type: ignore[misc]
            if file.unpacks_to:
                with tarfile.open(folder / file.name) as archive:
                    archive.extractall(folder, filter="data")
    return folder


def download(file: RemoteFile, out: Path, advanced: Callable[[int], None] = lambda done: None) -> None:
    """Writes ``out``, going on from ``out.part`` if an earlier download was cut."""
    part = out.with_name(out.name + ".part")
    try:
        receive(file, part, advanced)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        wrong = f"{file.name} could not be downloaded from {file.address}: {getattr(error, 'reason', error)}"
        raise BadInput(wrong, f"run it again to go on, or put the file into {out.parent} yourself") from error
    got = digest(part, file.algorithm)
    if got != file.digest:
        cut = part.stat().st_size < file.size
        if not cut:
            part.unlink()
        wrong = f"{file.name} came with {file.algorithm} {got}, the published file has {file.digest}"
        raise BadInput(wrong, "run it again to go on" if cut else "run it again; if it stays so, tell dgm's authors")
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
