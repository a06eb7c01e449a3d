"""The content of files as examples of a model, and back to the same bytes.

Each form of a file has three functions: ``describe`` reads the bytes and sizes that restore the file besides its
examples, ``examples`` yields batches, and ``restore`` writes the bytes of a file again.

- Arrays: .npy and IDX files of integers.
- Images of any size, .pgm, .ppm and any format that Pillow reads: cut into tiles of the model's size, the last ones
  padded by the edge's pixels. Of a compressed image format the pixels are kept, and come back as a .png file.
- Texts, in windows of the model's context; the last one is padded.
- Sounds (`dgm.compression.sounds`) and the rows of tables (`dgm.compression.rows`).
"""

from __future__ import annotations

import codecs
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypedDict

import numpy
import torch
from PIL import Image
from torch import Tensor

from dgm.data import text
from dgm.data.folder import UNREADABLE, opened
from dgm.errors import BadInput, Unsupported
from dgm.space import Space

PIECE = 1 << 20  # bytes that are read at a time
PNM = {1: b"P5", 3: b"P6"}


@dataclass(frozen=True)
class Interface:
    """The space of a model and the description of its data, as config.json has it."""

    space: Space
    about: Mapping[str, Any]


class Form(Protocol):
    schema: Any  # of ``about`` in a container

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]: ...

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]: ...

    def restore(
        self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]
    ) -> None: ...


class AboutOfArrays(TypedDict):
    header: str
    dtype: str


class Arrays:
    """Integers in C order after a header. ``about`` has the header's bytes and the dtype."""

    schema: Any = AboutOfArrays

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]:
        offset, dtype, shape = layout(path)
        space, count = interface.space, math.prod(shape)
        if squeezed(shape[1:]) != squeezed(space.shape) or not count:
            wrong = f"{path} is an array {shape}, expected (N, {', '.join(map(str, space.shape))})"
            raise BadInput(wrong, "give arrays of the model's shape")
        if path.stat().st_size != offset + count * dtype.itemsize:
            raise BadInput(f"{path} has {path.stat().st_size} bytes, not those of its header", "take it from a copy")
        with path.open("rb") as file:
            header = file.read(offset)
        return {"header": header.hex(), "dtype": dtype.str}, shape[0]

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]:
        dtype, offset = numpy.dtype(about["dtype"]), len(about["header"]) // 2
        flat = numpy.memmap(path, dtype, "r", offset)
        for start in range(0, len(flat), interface.space.dim):
            values = flat[start : start + interface.space.dim].astype(numpy.int64)
            yield in_space(torch.from_numpy(values).reshape(1, *interface.space.shape), interface.space, path)

    def restore(self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]) -> None:
        dtype = numpy.dtype(about["dtype"])
        if dtype.kind not in "iub":
            raise ValueError(f"{dtype} is not a type of integers")
        out.write(bytes.fromhex(about["header"]))
        for batch in batches:
            out.write(batch.numpy().astype(dtype).tobytes())


def layout(path: Path) -> tuple[int, numpy.dtype, tuple[int, ...]]:
    """The offset of the values, their dtype and the shape of an .npy or IDX file."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".npy":
                version = numpy.lib.format.read_magic(file)
                read = (
                    numpy.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else numpy.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = read(file)
                ordered, offset = not fortran, file.tell()
            else:
                zero, kind, dims = int.from_bytes(file.read(2), "big"), file.read(1), file.read(1)
                shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(dims[0]))
                dtype, ordered, offset = numpy.dtype("u1"), zero == 0 and kind == b"\x08", file.tell()
    except (OSError, ValueError, LookupError) as error:
        raise BadInput(f"{path} cannot be read as an array: {error}", "write it with numpy.save") from error
    if not ordered or dtype.kind not in "iub":
        raise BadInput(f"{path} is not an array of integers in C order", "write it so with numpy.save")
    return offset, dtype, shape


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def in_space(x: Tensor, space: Space, path: Path) -> Tensor:
    """Checks that integers are values of the space, and returns them in its dtype."""
    low, high = int(x.min()), int(x.max())
    most = (space.values or 0) - 1
    if low < 0 or high > most:
        wrong = f"{path} has values from {low} to {high}, the model's are from 0 to {most}"
        raise BadInput(wrong, "compress data like that of the model's training")
    return x.to(space.dtype)


class Size(TypedDict):
    size: list[int]


class AboutOfPictures(Size, total=False):
    header: str
    pixels_only: bool


class Pictures:
    """One image, in tiles row by row. ``about`` has its size, and the header of a .pgm or .ppm file."""

    schema: Any = AboutOfPictures

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]:
        space = interface.space
        if len(space.shape) != 3 or space.values != 256:
            raise Unsupported(
                f"an image is not an example of {space}", "use a model of images of 256 levels, or .npy arrays"
            )
        pixels, header = decoded(path)
        if len(pixels) != space.shape[0]:
            wrong = f"{path} has {len(pixels)} channels, the model's images {space.shape[0]}"
            raise BadInput(wrong, "convert it, or use another model")
        _, height, width = pixels.shape
        rows, columns = tiles_of((height, width), space)
        about: dict[str, Any] = {"size": [height, width]}
        if header is not None:
            about["header"] = header.hex()
        elif as_png(pixels.transpose(1, 2, 0)) != path.read_bytes():
            about["pixels_only"] = True
        return about, rows * columns

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]:
        (_, h, w), (height, width) = interface.space.shape, about["size"]
        rows, columns = tiles_of((height, width), interface.space)
        wide = numpy.pad(decoded(path)[0], [(0, 0), (0, rows * h - height), (0, columns * w - width)], "edge")
        for k in range(rows * columns):
            top, left = h * (k // columns), w * (k % columns)
            yield torch.from_numpy(wide[None, :, top : top + h, left : left + w].copy()).to(interface.space.dtype)

    def restore(self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]) -> None:
        height, width = about["size"]
        rows, columns = tiles_of((height, width), interface.space)
        tiles = torch.cat([*batches]).unflatten(0, (rows, columns))
        pixels = tiles.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        array = pixels.movedim(0, -1).numpy().astype(numpy.uint8)
        if "header" in about:
            out.write(bytes.fromhex(about["header"]) + array.tobytes())
        else:
            out.write(as_png(array))


def as_png(array: numpy.ndarray) -> bytes:
    """(H, W, C) grey levels as an optimised .png file."""
    out = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(out, "png", optimize=True)
    return out.getvalue()


def tiles_of(size: tuple[int, int], space: Space) -> tuple[int, int]:
    """The number of rows and columns of tiles."""
    return math.ceil(size[0] / space.shape[1]), math.ceil(size[1] / space.shape[2])


def decoded(path: Path) -> tuple[numpy.ndarray, bytes | None]:
    """The pixels (C, H, W) of an image, and the header of a .pgm or .ppm file, of which the pixels are the rest."""
    try:
        with opened(path) as image:
            mode = f"{image.mode} with transparency" if "transparency" in image.info else image.mode
            if mode not in ("L", "RGB"):
                raise BadInput(f"{path} is neither 8-bit grey nor RGB, but {mode}", "convert it")
            if getattr(image, "n_frames", 1) > 1:
                raise BadInput(f"{path} has several frames", "save each as an image")
            array = numpy.asarray(image)
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an image", "remove or replace it") from error
    array = array[..., None] if array.ndim == 2 else array
    data, raw = array.tobytes(), path.read_bytes()
    plain = raw[:2] == PNM.get(array.shape[2]) and raw.endswith(data)
    return array.transpose(2, 0, 1), raw[: len(raw) - len(data)] if plain else None


class AboutOfTexts(TypedDict):
    length: int


class Texts:
    """A text in windows. ``about`` has its number of characters, or bytes."""

    schema: Any = AboutOfTexts

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]:
        if not text.is_text(interface.about):
            raise Unsupported(f"{path} is not an example of {interface.space}", "use a model of text, such as char_gpt")
        length = sum(map(len, self.tokens(path, interface)))
        return {"length": length}, math.ceil(length / interface.space.dim)

    def tokens(self, path: Path, interface: Interface) -> Iterator[Tensor]:
        alphabet = interface.about.get("alphabet", "")
        read = codecs.getincrementaldecoder("utf-8")() if alphabet else None
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                try:
                    yield text.encode(read.decode(piece), interface.about) if read else torch.tensor(list(piece))
                except UnicodeDecodeError as error:
                    raise BadInput(f"{path} is not UTF-8 text: {error.reason}", "use a model of bytes") from error
        if read and read.getstate()[0]:
            raise BadInput(f"{path} ends within a character", "take it from a copy")

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]:
        size, rest = interface.space.dim, torch.zeros(0, dtype=torch.int64)
        for tokens in self.tokens(path, interface):
            rest = torch.cat([rest, tokens])
            whole = len(rest) // size * size
            yield from rest[:whole].reshape(-1, 1, size).to(interface.space.dtype)
            rest = rest[whole:]
        if len(rest):
            yield torch.cat([rest, rest.new_zeros(size - len(rest))])[None].to(interface.space.dtype)

    def restore(self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]) -> None:
        left = about["length"]
        for batch in batches:
            tokens = batch.flatten()[:left].long()
            left -= len(tokens)
            if interface.about.get("alphabet"):
                out.write(text.decode(tokens, interface.about).encode())
            else:
                out.write(bytes(tokens.tolist()))
