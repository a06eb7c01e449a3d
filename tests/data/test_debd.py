"""The binary density sets, from small files of their format and from the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgm import data
from dgm.data import debd
from dgm.data.table import DEBD
from dgm.errors import BadInput


def test_rows_of_zeros_and_ones(tmp_path: Path) -> None:
    for part, rows in (("train", "0,1,1\\n1,0,0\\n"), ("valid", "1,1,1\\n"), ("test", "0,0,0\\n0,0,1\\n")):
        (tmp_path / f"tiny.{part}.data").write_text(rows.replace("\\n", "\n"), encoding="utf-8")
    dataset = debd.load(tmp_path, "tiny")
    assert dataset.train.x.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert [len(split) for split in dataset.splits.values()] == [2, 1, 2]


@pytest.mark.parametrize(
    ("rows", "wrong"), [("0,1\n1\n", "one length"), ("", "one length"), ("0,2\n", "zeros and ones")]
)
def test_what_is_refused(rows: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "x.data").write_text(rows, encoding="utf-8")
    with pytest.raises(BadInput, match=wrong):
        debd.read(tmp_path / "x.data")


@pytest.mark.parametrize("name", DEBD)
def test_the_published_shapes(name: str, data_root: Path) -> None:
    dataset = data.load(f"debd/{name}", root=data_root)
    assert dataset.space.shape == (DEBD[name][0],)
    assert min(len(split) for split in dataset.splits.values()) >= 100
