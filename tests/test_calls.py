"""Whatever is given to the public API is answered by what was asked for, or by one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow
import pytest
import torch
from calls import REFUSED, TAKEN, Frame, lines

import dgm
from dgm.errors import BadInput
from dgm.runs import Run

pytestmark = pytest.mark.xdist_group("calls")  # one worker has all, so that the process of `outcomes` runs once


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process of its own, in which no test's hook checks types first."""
    command = [sys.executable, Path(__file__).with_name("calls.py"), tmp_path_factory.mktemp("calls")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("call", [call for group in REFUSED.values() for call in lines(group)])
def test_a_wrong_call_is_answered_by_one_line(call: str, outcomes: dict[str, str]) -> None:
    assert outcomes[call].startswith("line: ")
    assert "; " in outcomes[call]  # what to do


@pytest.mark.parametrize("call", lines(TAKEN))
def test_a_call_of_another_type_is_taken(call: str, outcomes: dict[str, str]) -> None:
    assert outcomes[call] == "taken"


def test_a_seed_of_numpy_is_the_same_seed() -> None:
    made = dgm.create("made", dgm.Space.binary((6,)), hidden=8)
    assert torch.equal(dgm.sample(made, 4, seed=numpy.int64(3)), dgm.sample(made, 4, seed=3))


# -- data in memory


ROWS = numpy.random.default_rng(0).normal(size=(40, 2))


def test_an_array_is_what_its_file_would_be(tmp_path: Path) -> None:
    labels = numpy.arange(40) % 3
    numpy.savez(tmp_path / "a.npz", x=ROWS, y=labels)
    expected = dgm.data.load(tmp_path / "a.npz", seed=5)
    for x, y in ((ROWS, labels), (torch.from_numpy(ROWS), torch.from_numpy(labels)), (ROWS.tolist(), labels.tolist())):
        found = dgm.data.load(x, y=y, seed=5)
        assert (found.space, found.labels, found.split) == (expected.space, expected.labels, expected.split)
        for part, split in found.splits.items():
            assert torch.equal(split.x, expected.splits[part].x)
            assert torch.equal(split.y, expected.splits[part].y)  # type: ignore[arg-type]


def test_a_table_is_what_its_file_would_be(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in ROWS.tolist()), encoding="utf-8")
    expected = dgm.data.load(tmp_path / "a.csv", seed=5)
    columns = {"a": ROWS[:, 0], "b": ROWS[:, 1]}
    for table in (pyarrow.table(columns), Frame(columns)):
        found = dgm.data.load(table, seed=5)
        assert (found.space, found.columns) == (expected.space, expected.columns)
        assert [column.name for column in found.columns] == ["a", "b"]
        assert torch.equal(found.train.x, expected.train.x)


def test_pictures_have_their_channels_first() -> None:
    x = numpy.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=numpy.uint8)
    data = dgm.data.load(x)
    assert data.space == dgm.Space.levels((3, 4, 5), 256)
    whole = torch.cat([split.x for split in data.splits.values()])
    there = {tuple(example.flatten().tolist()) for example in whole}
    assert there == {tuple(numpy.moveaxis(example, -1, 0).ravel().tolist()) for example in x}


def test_a_run_of_data_in_memory_says_that_it_has_no_copy(tmp_path: Path) -> None:
    data = dgm.data.load(ROWS)
    model = dgm.create("gmm", data.space, components=1)
    list(dgm.fit(model, data, out=tmp_path / "run", steps=1))
    x = dgm.sample(dgm.load(tmp_path / "run"), 3)
    assert torch.equal(x, dgm.sample(model, 3))
    with pytest.raises(BadInput, match="an array in memory, of which a run keeps no copy"):
        Run(tmp_path / "run").dataset()
