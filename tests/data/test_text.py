"""Text: windows that are views, an alphabet that comes back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgm import data
from dgm.data import text
from dgm.errors import BadInput, UnknownName, Unsupported

WORDS = "the quick brown fox jumps over the lazy dog — ß!\n" * 80


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


def test_splits_follow_one_another_and_windows_are_what_was_written(file: Path) -> None:
    dataset = data.load(str(file), context=16)
    about = dataset.describe()
    n = len(WORDS)
    assert dataset.space.shape == (16,)
    assert dataset.space.values == len(set(WORDS))
    assert len(dataset.train) == int(0.9 * n) - 15
    for start in (0, 1, 700):
        assert text.decode(dataset.train.x[start], about) == WORDS[start : start + 16]
    for split, begin, end in ((dataset.validation, 0.9, 0.95), (dataset.test, 0.95, 1.0)):
        held_out = WORDS[int(begin * n) : int(end * n)]
        assert "".join(text.decode(row, about) for row in split.x) == held_out[: len(split) * 16]


def test_windows_share_one_tensor(file: Path) -> None:
    x = data.load(str(file), context=16).train.x
    assert x.untyped_storage().nbytes() == len(WORDS)


def test_prompts_come_back(file: Path) -> None:
    for options in ({}, {"bytes": True}):
        about = data.load(str(file), **options).describe()
        assert text.decode(text.encode("fox — ß", about), about) == "fox — ß"


def test_bytes_that_are_cut_are_shown_as_such(file: Path) -> None:
    about = data.load(str(file), bytes=True).describe()
    assert text.decode(torch.tensor([0x66, 0xC3]), about) == "f\N{REPLACEMENT CHARACTER}"


def test_bytes_of_any_kind_can_be_a_prompt(file: Path) -> None:
    about = data.load(str(file), bytes=True).describe()
    assert text.encode(b"n\xe9".decode(errors="surrogateescape"), about).tolist() == [0x6E, 0xE9]


def test_what_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"never had the character 'Q'"):
        text.encode("Quick", data.load(str(file)).describe())
    with pytest.raises(Unsupported, match="no text"):
        text.encode("a", data.load("digits").describe())
    with pytest.raises(BadInput, match="expected at least 40000, 40 windows"):
        data.load(str(file), context=1000)
    with pytest.raises(UnknownName, match="size"):
        data.load(str(file), size=3)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1") * 4000)
    with pytest.raises(BadInput, match=r"not UTF-8 text: .* at byte 0; .* --bytes"):
        data.load(str(tmp_path / "latin.txt"))
    assert data.load(str(tmp_path / "latin.txt"), bytes=True).space.values == 256


def test_tinyshakespeare(data_root: Path) -> None:
    dataset = data.load("tinyshakespeare", root=data_root, context=64)
    assert dataset.space.values == 65
    assert len(dataset.train) == 1003854 - 63
    assert text.decode(dataset.train.x[0], dataset.describe()).startswith("First Citizen:\nBefore we proceed")
