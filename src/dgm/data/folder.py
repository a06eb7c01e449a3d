"""The user's own folder of images, of any size, grey or in colour, labelled by subfolder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy
import torch
from PIL import Image, UnidentifiedImageError

from dgm.data.dataset import Dataset, divided, fingerprint, shuffled_parts
from dgm.data.table import cache
from dgm.errors import BadInput
from dgm.space import Space

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
DEFAULT_SIZE = 32
SHARE_OF_MEMORY = 0.25  # a folder that decodes to more is kept in a file and memory-mapped


def load(path: Path, *, size: int | None = None, grey: bool = False, seed: int = 0) -> Dataset:
    """Images as 256 levels, (C, size, size), or at their own size where all have one and ``size`` is None.

    Others are resized by their shorter side and cropped at the centre, to 32 pixels where no size is given. They are
    grey if all of them are, or if asked. Labels are the names of the subfolders that hold the images.

    Raises:
        BadInput: Naming the image that cannot be read, or a folder that has none.
    """
    if size is not None and size < 4:
        raise BadInput(f"--size must be at least 4, got {size}", "give the side in pixels")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(files) < 10:
        raise BadInput(
            f"{path} holds {len(files)} images, expected at least 10", f"put {', '.join(sorted(SUFFIXES))} files there"
        )
    shape = common_shape(files, size, grey)
    x = torch.from_numpy(decode(files, shape, stamp(path, files, shape)))
    names = [str(file.parent.relative_to(path)) for file in files]
    labels = tuple(sorted(set(names))) if len(set(names)) > 1 else ()
    y = torch.tensor([labels.index(name) for name in names]) if labels else None
    parts = divided(x, y, shuffled_parts(len(x), seed))
    return Dataset(
        name=str(path), space=Space.levels(shape, 256), split=f"80 / 10 / 10 %, seed {seed}", labels=labels, **parts
    )


def common_shape(files: list[Path], size: int | None, grey: bool) -> tuple[int, int, int]:
    """(C, H, W) of all images once they are decoded. Reads the headers alone."""
    seen: Counter[tuple[int, int]] = Counter()
    colour = False
    for file in files:
        try:
            with Image.open(file) as image:
                seen[image.size] += 1
                colour |= image.mode not in ("1", "L", "I", "I;16", "LA")
        except (UnidentifiedImageError, OSError) as error:
            raise BadInput(f"{file} cannot be read as an image", "remove or replace it") from error
    width, height = next(iter(seen)) if len(seen) == 1 and size is None else (size or DEFAULT_SIZE,) * 2
    return (1 if grey or not colour else 3, height, width)


def decode(files: list[Path], shape: tuple[int, int, int], name: str) -> numpy.ndarray:
    """uint8 (N, C, H, W): in memory where it fits, else in the user's cache and memory-mapped."""
    whole = (len(files), *shape)
    if numpy.prod(whole) <= SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        out = numpy.empty(whole, numpy.uint8)
        fill(out, files)
        return out
    kept = cache() / "folders" / f"{name}.npy"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}.tmp")
        mapped = numpy.lib.format.open_memmap(temporary, mode="w+", dtype=numpy.uint8, shape=whole)
        fill(mapped, files)
        mapped.flush()
        temporary.replace(kept)
    return numpy.load(kept, mmap_mode="c", allow_pickle=False)


def fill(out: numpy.ndarray, files: list[Path]) -> None:
    for k, file in enumerate(files):
        out[k] = pixels(file, out.shape[1:])


def pixels(file: Path, shape: tuple[int, ...]) -> numpy.ndarray:
    """One image as uint8 (C, H, W): its shorter side resized, its centre cropped."""
    channels, height, width = shape
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise BadInput(f"{file} cannot be read as an image", "remove or replace it") from error
    factor = max(width / image.width, height / image.height)
    if factor != 1:
        image = image.resize(
            (max(width, round(image.width * factor)), max(height, round(image.height * factor))),
            Image.Resampling.LANCZOS,
        )
    left, top = (image.width - width) // 2, (image.height - height) // 2
    array = numpy.asarray(image.crop((left, top, left + width, top + height)))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def stamp(path: Path, files: list[Path], shape: tuple[int, int, int]) -> str:
    """A name for the decoded folder that changes when a file does."""
    stats = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{path.name}-{fingerprint(torch.tensor([*map(list, stats), [hash(shape) % 2**31, len(files)]]))[:16]}"
