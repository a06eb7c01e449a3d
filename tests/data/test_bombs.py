"""Files that say, or unpack to, far more than they hold are refused from their headers, with the number."""

from __future__ import annotations

import gzip
import os
import resource
import struct
import subprocess
import sys
import wave
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from dgm import data, memory
from dgm.data import images, storage, walk
from dgm.errors import BadInput
from dgm.files import sweep

GIGABYTES = 3 << 30  # of which none may be taken


@pytest.fixture(autouse=True)
def nothing_is_taken() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GIGABYTES / 4


def npy_header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    text = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def zeros(path: Path, size: int) -> None:
    """An .npz file whose x is of ``size`` zeros."""
    block = bytes(1 << 22)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy_header((size >> 10, 1 << 10)))
        for _ in range(size >> 22):
            file.write(block)


@pytest.mark.parametrize("size", [1 << 25, pytest.param(3 << 30, marks=pytest.mark.slow)])
def test_a_small_npz_file_that_unpacks_to_much(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BOMB_BYTES", min(size // 2, memory.BOMB_BYTES))
    zeros(tmp_path / "a.npz", size)
    said = r"a\.npz has [\d,]+ bytes and unpacks to (0|3)\.0 GiB, \d+ times as much; save it by numpy\.save"
    with pytest.raises(BadInput, match=said):
        data.load(str(tmp_path / "a.npz"))


def test_an_array_up_to_what_memory_has_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy.savez_compressed(tmp_path / "a.npz", x=numpy.zeros((1000, 100), numpy.uint8))
    assert len(data.load(str(tmp_path / "a.npz")).train) == 800
    numpy.savez(tmp_path / "b.npz", x=numpy.zeros((1000, 100), numpy.uint8))  # as large as what it holds
    with monkeypatch.context() as patched:
        patched.setattr(memory, "BOMB_BYTES", 0)
        assert len(data.load(str(tmp_path / "b.npz")).train) == 800
    monkeypatch.setattr(memory, "available", lambda: 50_000)
    with pytest.raises(BadInput, match=r"takes 0\.0 GiB of memory"):
        data.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("shape", [(10**12, 10), (10**30, 3), (2**62, 2)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_header_that_claims_too_much(shape: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    content = npy_header(shape) + bytes(100)
    if suffix == "npy":
        (tmp_path / "a.npy").write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as packed:
            packed.writestr("x.npy", content)
    with pytest.raises(BadInput, match="cannot be read as an array"):
        data.load(str(tmp_path / f"a.{suffix}"))


def png(path: Path, width: int, height: int) -> None:
    """A PNG file of a few bytes that says how large it is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("width", "height"), [(9000, 10_000), (14_000, 13_000), (50_000, 50_000)])
def test_a_picture_of_too_many_pixels(width: int, height: int, tmp_path: Path) -> None:
    for k in range(10):
        Image.new("L", (8, 8), k).save(tmp_path / f"{k}.png")
    png(tmp_path / "large.png", width, height)
    with pytest.raises(BadInput, match=f"large.png.*({width:,} × {height:,}|{width * height}) pixels"):
        data.load(str(tmp_path))


def test_a_picture_that_is_none_starts_no_program(tmp_path: Path) -> None:
    for k in range(10):
        Image.new("L", (8, 8), k).save(tmp_path / f"{k}.png")
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(BadInput, match=r"x\.png cannot be read"):
        data.load(str(tmp_path))


def test_pictures_of_an_absurd_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(10):
        Image.new("RGB", (8, 8), (k, k, 0)).save(tmp_path / f"{k}.png")
    with pytest.raises(BadInput, match="from 4 to 8,192, got 1000000"):
        data.load(str(tmp_path), size=1_000_000)
    monkeypatch.setattr(storage, "SHARE_OF_MEMORY", 1e-9)
    monkeypatch.setattr(storage, "SHARE_OF_DISK", 1e-9)
    with pytest.raises(BadInput, match="are free on disk"):
        data.load(str(tmp_path), size=64)


def recordings(folder: Path, rate: int = 8000) -> None:
    for k in range(10):
        with wave.open(str(folder / f"{k}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(numpy.arange(800, dtype="<i2").tobytes())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 10**9}, "pieces of 0.5 s at 1000000000 Hz"),
        ({"seconds": 1e9}, "pieces of 1000000000.0 s"),
        ({"seconds": float("inf")}, "finite"),
        ({"seconds": float("nan")}, "finite"),
    ],
)
def test_sound_of_an_absurd_length(options: dict[str, float], said: str, tmp_path: Path) -> None:
    recordings(tmp_path)
    with pytest.raises(BadInput, match=said):
        data.load(str(tmp_path), **options)
    assert not list(Path(os.environ["DGM_CACHE"]).rglob("*.npy"))


def test_a_recording_that_says_more_than_it_has(tmp_path: Path) -> None:
    recordings(tmp_path)
    content = bytearray((tmp_path / "0.wav").read_bytes())
    content[40:44] = struct.pack("<I", 2**32 - 1)
    (tmp_path / "0.wav").write_bytes(content)
    with pytest.raises(BadInput, match=r"0\.wav ends after 1644 of 429496729\d bytes"):
        data.load(str(tmp_path))


def test_a_parquet_file_of_one_number_a_million_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BOMB_BYTES", 1 << 20)
    pyarrow.parquet.write_table(pyarrow.table({"a": numpy.zeros(1_000_000)}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"unpacks to 0.0 GiB, [0-9,]+ times"):
        data.load(str(tmp_path / "a.parquet"))


def test_an_idx_file_that_says_too_much(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**10, 2**10) + bytes(100)))
    with pytest.raises(BadInput, match=r"unpacks to 2,097,152\.0 GiB"):
        images.read_idx(path)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10) + bytes(100_000_000)))
    with pytest.raises(BadInput, match="not an idx file"):
        images.read_idx(path)


def test_a_text_or_a_table_larger_than_memory(tmp_path: Path) -> None:
    for name in ("a.txt", "a.csv"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 42)  # sparse: it takes no place on the disk
        with pytest.raises(BadInput, match=r"GiB of memory, .* are free; give a part of it"):
            data.load(str(tmp_path / name))


def test_a_whole_disk_is_sized_up_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"/ holds more than 1,000 files, of which"):
        data.load("/")
    monkeypatch.setattr(walk, "LOOKED_AT", 5)
    for k in range(10):
        (tmp_path / f"{k}.log").touch()
    with pytest.raises(BadInput, match="holds more than 5 files"):
        data.load(str(tmp_path))
    for k in range(10):
        Image.new("L", (8, 8), k).save(tmp_path / f"{k}.png")
    assert len(data.load(str(tmp_path)).train) == 8


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    for name in (f".a.npy.{dead.pid}.tmp", f"a.{dead.pid}.tmp", f".b.npy.{os.getpid()}.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    (tmp_path / f".folder.{dead.pid}.tmp" / "inner").mkdir(parents=True)
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".b.npy.{os.getpid()}.tmp", "notes.tmp"]
