"""The container of compressed data: a header, blocks that are decoded independently, and an end.

::

    "DGMC", u16 version, u32 length, header (JSON, UTF-8), u32 CRC
    "BLCK", u32 number, u32 examples, u32 checksum of the frequencies, u32 words left out, u32 words, the words, u32 CRC
    "DONE", u32 blocks, u32 CRC

The part "BLCK" is repeated. All numbers are little-endian, and a CRC is of everything before it in its part. After a
damaged block the next undamaged one is found by its mark, so that a damage loses the block that it is in.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy

from dgm.errors import DamagedRun

MAGIC, BLOCK, DONE = b"DGMC", b"BLCK", b"DONE"
VERSION = 2
REMEDY = "take the file from a copy"
START, HEAD, END = struct.Struct("<4sHI"), struct.Struct("<4sIIIII"), struct.Struct("<4sI")
CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        number: Its place, from 0 on.
        examples: The number of examples in it.
        checksum: Of the frequencies with which it is coded.
        left_out: The number of words of the codec's initial stack that lie below the others and are left out.
        words: The bits as 32-bit words.
    """

    number: int
    examples: int
    checksum: int
    left_out: int
    words: numpy.ndarray


def sealed(data: bytes) -> bytes:
    """The data with its CRC."""
    return data + CRC.pack(zlib.crc32(data))


class Writer:
    """Writes a container to an open file, block by block."""

    def __init__(self, file: IO[bytes], header: Mapping[str, Any]) -> None:
        self.file, self.blocks, self.bits = file, 0, 0
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.write(sealed(START.pack(MAGIC, VERSION, len(text)) + text))

    def write(self, block: Block) -> None:
        head = HEAD.pack(BLOCK, block.number, block.examples, block.checksum, block.left_out, len(block.words))
        self.file.write(sealed(head + block.words.astype("<u4").tobytes()))
        self.blocks += 1
        self.bits += 32 * len(block.words)

    def end(self) -> None:
        self.file.write(sealed(END.pack(DONE, self.blocks)))


class Reader:
    """Reads a container.

    Raises:
        DamagedRun: If the file is not a container, has another version, or its header is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        if len(self.data) < START.size or self.data[:4] != MAGIC:
            raise DamagedRun(f"{path} is not a file that `dgm compress` wrote", REMEDY)
        _, version, length = START.unpack(self.data[: START.size])
        if version != VERSION:
            raise DamagedRun(f"{path} has the version {version}, this dgm reads {VERSION}", "use the dgm that wrote it")
        self.first = START.size + length + CRC.size
        if not self.is_sealed(0, self.first):
            raise DamagedRun(f"the header of {path} is damaged", REMEDY)
        try:
            self.header: Any = json.loads(self.data[START.size : START.size + length])
        except (ValueError, RecursionError) as error:
            raise DamagedRun(f"the header of {path} is not valid JSON", REMEDY) from error

    def is_sealed(self, start: int, end: int) -> bool:
        """Whether the bytes are there, and end with their CRC."""
        if not start + CRC.size <= end <= len(self.data):
            return False
        return zlib.crc32(self.data[start : end - CRC.size]) == CRC.unpack(self.data[end - CRC.size : end])[0]

    def blocks(self) -> Iterator[Block]:
        """The undamaged blocks in order; whatever is damaged between them is passed over."""
        at = self.first
        while (at := self.data.find(BLOCK, at)) >= 0:
            end = self.end_of(at)
            if end is None:
                at += 1
                continue
            _, number, examples, checksum, left_out, _ = HEAD.unpack(self.data[at : at + HEAD.size])
            words = numpy.frombuffer(self.data[at + HEAD.size : end - CRC.size], "<u4").astype(numpy.uint32)
            yield Block(number, examples, checksum, left_out, words)
            at = end

    def end_of(self, at: int) -> int | None:
        """The end of the block that begins here; None if it is damaged."""
        if at + HEAD.size > len(self.data):
            return None
        words = HEAD.unpack(self.data[at : at + HEAD.size])[-1]
        end = at + HEAD.size + 4 * words + CRC.size
        return end if self.is_sealed(at, end) else None

    @property
    def ends(self) -> bool:
        """Whether the end of the container is there and undamaged."""
        at = len(self.data) - END.size - CRC.size
        return at >= self.first and self.data[at : at + 4] == DONE and self.is_sealed(at, len(self.data))
