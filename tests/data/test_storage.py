"""Where arrays are kept, the names of what is kept, and the order in which folders are searched."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from dgm.data import storage
from dgm.data.dataset import fingerprint, order_of_shards
from dgm.data.table import roots
from dgm.data.text import characters
from dgm.errors import BadInput


def test_a_quarter_of_memory_stays_there_and_the_rest_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DGM_CACHE", str(tmp_path))
    monkeypatch.setattr(storage.memory, "total", lambda: 4000)

    def fill(out: numpy.ndarray) -> None:
        out[:] = 7

    for size, files in ((1000, 0), (1001, 1)):
        assert storage.stored((size,), "uint8", fill, "a").tolist() == [7] * size
        assert len(list(tmp_path.glob("arrays/a.npy"))) == files
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    storage.refuse_full_disk(900, tmp_path)
    with pytest.raises(BadInput, match="are free on disk"):
        storage.refuse_full_disk(901, tmp_path)


def test_a_stamp_is_of_the_files_their_times_their_order_and_the_details(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(b"1")
    stamps = {
        storage.stamp(tmp_path, files, (3, 8, 8)),
        storage.stamp(tmp_path, files, (1, 8, 8)),
        storage.stamp(tmp_path, files[::-1], (3, 8, 8)),
    }
    os.utime(files[0], ns=(0, 0))
    assert len(stamps | {storage.stamp(tmp_path, files, (3, 8, 8))}) == 4


def test_a_fingerprint_is_of_the_shape_and_of_far_numbers_too() -> None:
    x = torch.zeros(5000, 2)
    other = x.clone()
    other[-1, 1] = 1
    assert len({fingerprint(x), fingerprint(other), fingerprint(x.view(2500, 4))}) == 3


def test_examples_of_shards_are_shuffled_within_4096() -> None:
    """Of two shards of as many, one comes whole before the other, and its examples from everywhere in it."""
    found = order_of_shards([4096, 4096], 0, 0)
    first = found[:4096].sort().values
    assert torch.equal(first, first[0] + torch.arange(4096))
    assert (found[:64] - found[:64].min()).max() > 3000


def test_more_than_256_characters_are_no_bytes() -> None:
    for count, dtype in ((256, numpy.uint8), (257, numpy.int32)):
        letters = "".join(map(chr, range(300, 300 + count)))
        alphabet, tokens = characters(letters.encode(), Path())
        assert (alphabet, tokens.dtype) == (letters, dtype)
        assert tokens.tolist() == list(range(count))


def test_the_users_folder_is_searched_before_that_of_the_environment_and_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DGM_DATA", "/data")
    monkeypatch.setenv("DGM_CACHE", "/cache")
    assert roots("/own") == [Path("/own"), Path("/data"), Path("/cache/data")]
