"""The user's own folder of images, of any size, grey or in colour.

The condition of an image comes from a table in the folder (`dgm.data.attributes`); or, if there are two folders x and
condition, it is the image of the same name; or else it is the name of the image's subfolder.
"""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy
from PIL import ExifTags, Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from dgm.condition import Names
from dgm.data import attributes, walk
from dgm.data.dataset import Conditions, Dataset, consecutive, shuffled
from dgm.data.palette import clustered
from dgm.data.storage import stamp, stored
from dgm.errors import BadInput
from dgm.inputs import how_many
from dgm.space import Space

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # some other formats of Pillow start programs
DEFAULT_SIZE = 32
PAIR = "x", "condition"  # the folders of images and of their conditions
LARGEST_SIDE, LARGEST_PIXELS = 8192, 89_000_000  # the limits of a resized image and of a source image
GREY = ("1", "L", "LA")
GREY_16_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# the errors of Pillow for a file that is damaged, has another format, or would not fit into memory
UNREADABLE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
UNREADABLE += (RuntimeError, LookupError, TypeError, struct.error)
WORTH_A_BAR = 1000
log = logging.getLogger("dgm")
LOCK = Lock()  # all threads share the filters of warnings


def load(
    path: Path, *, size: int | None = None, grey: bool = False, palette: int | None = None, seed: int = 0
) -> Dataset:
    """Images of 256 levels, (C, size, size), or of their common size if they have one and ``size`` is None.

    Other images are resized by their shorter side and cropped at the centre; the default size is 32 pixels. The images
    are grey if all files are grey or ``grey`` is set. The orientation of the camera is applied, transparency is
    dropped, 16 bits are reduced to 8, and hidden files are left out. With a ``palette`` each pixel is a token, one of
    that number of colours.

    Raises:
        BadInput: If an image cannot be read, with its name, or if the folder has no image.
    """
    if size is not None and not 4 <= size <= LARGEST_SIDE:
        raise BadInput(f"--size must be from 4 to {LARGEST_SIDE:,}, got {size}", "give the side in pixels")
    paired = all((path / part).is_dir() for part in PAIR)
    folder = path / PAIR[0] if paired else path
    files = walk.files(folder, walk.IMAGES)
    if len(files) < 10:
        raise BadInput(
            f"{folder} holds {how_many(len(files), 'image')}, expected at least 10",
            f"put {', '.join(sorted(walk.IMAGES))} files there",
        )
    rows, sizes = shuffled(len(files), seed)
    shape = common_shape(files, size, grey)
    files = [files[row] for row in rows.tolist()]  # in the order of the splits, so that a split is a slice of the array
    conditioning = paired_images(path, files, size) if paired else conditions(path, files, sizes["train"])
    x = decoded(path, files, shape)
    split = f"80 / 10 / 10 %, seed {seed}"
    dataset = Dataset(
        name=str(path), space=Space.levels(shape, 256), split=split, **consecutive(x, conditioning, sizes)
    )
    return dataset if palette is None else clustered(dataset, palette)


def decoded(path: Path, files: list[Path], shape: tuple[int, int, int]) -> Tensor:
    """The decoded images, (N, C, H, W) uint8."""
    return stored((len(files), *shape), "uint8", lambda out: fill(out, files), stamp(path, files, shape))


def conditions(path: Path, files: Sequence[Path], train: int) -> Conditions | None:
    """The conditions from the table in the folder, or else the names of the subfolders.

    Args:
        train: The size of the training split, which is first in ``files``.
    """
    table = attributes.beside(path)
    if table is not None:
        return attributes.inferred(attributes.of_files(table, path, files), range(train))
    names = [str(file.parent.relative_to(path)) for file in files]
    return attributes.categories(names) if len(set(names)) > 1 else None


def paired_images(path: Path, files: Sequence[Path], size: int | None) -> Conditions:
    """The images of the same names in the other folder of the pair, at their own size.

    Raises:
        BadInput: If an image has no counterpart in the other folder.
    """
    here, there = (path / part for part in PAIR)
    others = {stem_below(there, file): file for file in walk.files(there, walk.IMAGES)}
    wanted = [stem_below(here, file) for file in files]
    for name in wanted:
        if name not in others:
            raise BadInput(f"{there} has no image '{name}', which {here} has", "add it, or remove the other one")
    if lone := others.keys() - set(wanted):
        raise BadInput(f"{here} has no image '{min(lone)}', which {there} has", "add it, or remove the other one")
    if len(set(wanted)) < len(wanted):
        raise BadInput(f"{here} has two images of one name in two formats", "keep one of them")
    partners = [others[name] for name in wanted]
    shape = common_shape(partners, None, False, usual=size or DEFAULT_SIZE)
    return Conditions(Space.levels(shape, 256), decoded(there, partners, shape), Names())


def stem_below(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """An image of which the header is read and the pixels are not decoded yet.

    Raises:
        BadInput: If it has too many pixels to decode, with their number.
    """
    with LOCK, warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise BadInput(f"{file}: {error}", "make it smaller, or cut it into pieces") from error
    with image:
        if image.width * image.height > LARGEST_PIXELS:
            wrong = f"{file} has {image.width:,} × {image.height:,} pixels, expected at most {LARGEST_PIXELS:,}"
            raise BadInput(wrong, "make it smaller, or cut it into pieces")
        yield image


def common_shape(files: list[Path], size: int | None, grey: bool, usual: int = DEFAULT_SIZE) -> tuple[int, int, int]:
    """The common shape (C, H, W) of the decoded images. Reads the headers alone.

    Args:
        usual: The default of ``size`` for images of several sizes.
    """
    seen: Counter[tuple[int, int]] = Counter()
    colour = False
    for file in files:
        try:
            with opened(file) as image:
                seen[image.size[::-1] if is_rotated(image) else image.size] += 1
                colour |= image.mode not in (*GREY, *GREY_16_BIT)
        except UNREADABLE as error:
            raise BadInput(f"{file} cannot be read as an image", "remove or replace it") from error
    width, height = next(iter(seen)) if len(seen) == 1 and size is None else (size or usual,) * 2
    if len(seen) > 1 and size is None:
        how = "its shorter side is made %d pixels and its centre cropped; --size chooses another"
        log.warning("%d images have %d sizes: each becomes %d×%d, " + how, len(files), len(seen), width, height, width)
    return (1 if grey or not colour else 3, height, width)


def is_rotated(image: Image.Image) -> bool:
    """Whether the camera's orientation swaps height and width. In a PNG file it follows the pixels and is not read."""
    return image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5


def fill(out: numpy.ndarray, files: Sequence[Path]) -> None:
    console, shape = Console(stderr=True), out.shape[1:]
    quiet = len(files) < WORTH_A_BAR or not console.is_terminal
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda file: pixels(file, shape), files)
        bar = track(decoded, "reading images", len(files), console=console, transient=True, disable=quiet)
        for k, image in enumerate(bar):
            out[k] = image


def pixels(file: Path, shape: tuple[int, ...]) -> numpy.ndarray:
    """One image as uint8 (C, H, W), resized by its shorter side and cropped at the centre."""
    channels, height, width = shape
    try:
        with opened(file) as image:
            image.draft(None, (2 * max(shape),) * 2)  # a much larger JPEG file is decoded at a lower resolution
            image = eight_bits(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    except UNREADABLE as error:
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


def eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit image in 8 bits: 65,535 becomes 255, where Pillow's own conversion would clip at 255."""
    if image.mode not in GREY_16_BIT:
        return image
    return Image.fromarray((numpy.asarray(image).clip(0, 65_535) / 257).round().astype(numpy.uint8))
