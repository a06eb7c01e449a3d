"""The UCI tables, from a small file of their format and from the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgm import data
from dgm.data import uci
from dgm.data.table import UCI
from dgm.errors import BadInput


def test_rows_of_numbers(tmp_path: Path) -> None:
    """Every row is in one split, the column of one value in none, and the space has the training split's moments."""
    rows = [f"{k},7,{-k / 4}e1" for k in range(20)]
    (tmp_path / "tiny.csv").write_text("\n".join(rows), encoding="utf-8")
    dataset = uci.load(tmp_path, "tiny")
    assert [len(split) for split in dataset.splits.values()] == [16, 2, 2]
    together = torch.cat([split.x for split in dataset.splits.values()])
    assert together[:, 0].tolist() == data.order(20, 0, 0).tolist() != list(range(20))
    assert torch.equal(together[:, 1], -2.5 * together[:, 0])
    assert dataset.space.loc == pytest.approx(dataset.train.x.mean(0).tolist(), rel=1e-6)
    assert dataset.space.scale == pytest.approx(dataset.train.x.std(0).tolist(), rel=1e-6)


@pytest.mark.parametrize("rows", ["1,2\n3\n", "a,b\n", "1,nan\n"])
def test_what_is_refused(rows: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(BadInput):
        uci.read(tmp_path / "x.csv")


@pytest.mark.parametrize("name", UCI)
def test_the_shapes(name: str, data_root: Path) -> None:
    """The rows are as many as are stated; of the columns those of one value are left out."""
    dataset = data.load(f"uci/{name}", root=data_root)
    rows, columns = UCI[name]
    assert sum(len(split) for split in dataset.splits.values()) == rows
    assert dataset.space.shape[0] <= columns
    assert len(dataset.test) >= 10
