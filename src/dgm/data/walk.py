"""The files of a folder and its subfolders, with a check against very large folders of other files."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from dgm.errors import BadInput

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SOUNDS = {".wav"}
LOOKED_AT = 20_000  # from this number of files on, a tenth must be data
SHARE = 0.1
OF_A_DISK = 1_000, 0.9  # the same for the root of a disk, which is rarely a data set


def files(path: Path, suffixes: Set[str]) -> list[Path]:
    """All files below ``path`` with one of ``suffixes``, sorted; hidden files and hidden folders are left out.

    Raises:
        BadInput: If the folder, such as the root of a disk, has very many files and few have one of the suffixes.
    """
    paths: list[Path] = []
    seen = known = 0
    looked_at, share = OF_A_DISK if path == Path(path.anchor) else (LOOKED_AT, SHARE)
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        endings = [Path(name).suffix.lower() for name in names]
        seen, known = seen + len(names), known + sum(ending in IMAGES | SOUNDS for ending in endings)
        if seen > looked_at and known < share * seen:
            wrong = f"{path} holds more than {looked_at:,} files, of which {known:,} are images or sounds"
            raise BadInput(wrong, "name the folder of the data itself")
        pairs = zip(names, endings, strict=True)
        paths += [Path(folder, name) for name, ending in pairs if ending in suffixes and not name.startswith(".")]
    return sorted(file for file in paths if file.is_file())
