"""Sounds of 16 bits by a model of companded levels: .wav files that come back byte for byte.

A level of 8 bits stands for several values of 16 bits. The model codes the level, and the value is coded as one of
equally probable ones among those of the level, so that nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple, TypedDict

import numpy
import torch
from torch import Tensor

from dgm.compression.codecs import Codec
from dgm.compression.content import Interface
from dgm.compression.stack import Stack
from dgm.data import sound
from dgm.errors import BadInput, Unsupported
from dgm.protocols import Batch, Conditions
from dgm.space import Space

VALUES = 2**16
SILENCE = VALUES // 2


class Companding(NamedTuple):
    """The level of each 16-bit value from 0 on, the first value of each level, and how many it has."""

    level: Tensor
    first: Tensor
    size: Tensor


@cache
def companding() -> Companding:
    level = torch.from_numpy(sound.compress((numpy.arange(VALUES) - SILENCE) / SILENCE)).long()
    count = level.bincount(minlength=sound.LEVELS)
    return Companding(level, count.cumsum(0) - count, count)


class CompandedCodec:
    """16-bit values: the level by the codec of a model, the value among those of the level uniformly.

    Args:
        levels: The codec of the model.
        lengths: (B,), how many values of each example are coded; the others are silent.
    """

    def __init__(self, levels: Codec, lengths: Tensor) -> None:
        self.levels, self.initial = levels, levels.initial
        self.space = Space.levels(levels.space.shape, VALUES)
        self.inside = inside(lengths, self.space.shape)

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        level, first, size = companding()
        z = level[x.long()]
        stack.push_uniform((x.long() - first[z])[self.inside], size[z][self.inside])
        self.levels.push(stack, z.to(self.levels.space.dtype), y)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        z = self.levels.pop(stack, n, y).long()[self.inside]
        _, first, size = companding()
        x = torch.full((n, *self.space.shape), SILENCE)
        x[self.inside] = first[z] + stack.pop_uniform(size[z])
        return x.to(self.space.dtype)


def inside(lengths: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape), whether a value is one of the first of its example."""
    return (torch.arange(math.prod(shape)) < lengths[:, None]).view(-1, *shape)


def levels_and_bits(x: Batch, lengths: Tensor) -> tuple[Tensor, float]:
    """The levels of 16-bit values, uint8, and the bits that the values take given their levels."""
    level, _, size = companding()
    z = level[x.long()]
    return z.to(torch.uint8), float(size[z].double().log2()[inside(lengths, x.shape[1:])].sum())


def lengths_of(samples: int, size: int) -> list[int]:
    """The number of samples of each example of a sound."""
    return [min(size, samples - start) for start in range(0, samples, size)]


class AboutOfSounds(TypedDict):
    before: str
    after: str
    samples: int


class Sounds:
    """A .wav file of 16-bit samples in one channel at the model's rate, in pieces of the model's length; the last one
    is padded with silence, of which the model codes the level alone. ``about`` has the number of samples, and the bytes
    before and after them.
    """

    schema: Any = AboutOfSounds

    def describe(self, path: Path, interface: Interface) -> tuple[dict[str, Any], int]:
        rate = interface.about.get("rate")
        if not rate or interface.space.values != sound.LEVELS:
            raise Unsupported(f"{path} is not an example of {interface.space}", "use a model of sound, such as wavenet")
        with sound.opened(path) as file:
            found = (8 * file.getsampwidth(), file.getnchannels(), file.getframerate())
        if found != (16, 1, rate):
            wrong = "{} has {} bits in {} channels at {} Hz, the model is of 16 bits in 1 at {} Hz"
            raise BadInput(wrong.format(path, *found, rate), "convert it, or use another model")
        start, length = samples_at(path)
        with path.open("rb") as file:
            before = file.read(start)
            file.seek(start + length)
            after = file.read()
        samples = length // 2
        about = {"before": before.hex(), "after": after.hex(), "samples": samples}
        return about, math.ceil(samples / interface.space.dim)

    def examples(self, path: Path, about: dict[str, Any], interface: Interface) -> Iterator[Tensor]:
        size = interface.space.dim
        values = numpy.memmap(path, "<i2", "r", len(about["before"]) // 2, (about["samples"],))
        for start in range(0, len(values), size):
            piece = torch.full((size,), SILENCE, dtype=torch.int64)
            part = torch.from_numpy(values[start : start + size].astype(numpy.int64))
            piece[: len(part)] = part + SILENCE
            yield piece.reshape(1, *interface.space.shape).to(Space.levels((), VALUES).dtype)

    def restore(self, batches: Iterator[Tensor], about: dict[str, Any], interface: Interface, out: IO[bytes]) -> None:
        out.write(bytes.fromhex(about["before"]))
        left = about["samples"]
        for batch in batches:
            values = batch.flatten().long()[:left] - SILENCE
            left -= len(values)
            out.write(values.numpy().astype("<i2").tobytes())
        out.write(bytes.fromhex(about["after"]))


def samples_at(path: Path) -> tuple[int, int]:
    """The offset and the number of bytes of the samples in a RIFF file."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return file.tell(), length - length % 2
            file.seek(length + length % 2, 1)
    raise BadInput(f"{path} has no samples", "replace or remove it")
