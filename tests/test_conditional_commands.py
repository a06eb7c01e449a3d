"""Conditions on the command line: trained on, named, read from files, refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import dgm
from dgm.cli import main
from dgm.errors import BadInput, DamagedRun, DgmError
from dgm.runs import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of MADE on images with attributes, captions, small images and labels, hardly trained."""
    folder = tmp_path_factory.mktemp("conditional")
    for name in ("attributes", "captions", "pairs/x", "pairs/condition"):
        (folder / name).mkdir(parents=True)
    rows = []
    for k in range(24):
        for name in ("attributes", "captions", "pairs/x"):
            Image.new("L", (4, 4), 10 * k).save(folder / name / f"{k}.png")
        Image.new("L", (2, 2), 10 * k).save(folder / "pairs/condition" / f"{k}.png")
        rows.append((k, k % 2, int(k > 11), "a red one" if k % 2 else "two"))
    for name, header, written in (
        ("attributes", "file,odd,big", "{0},{1},{2}"),
        ("captions", "file,caption", "{0},{3}"),
    ):
        lines = [header, *(written.format(*row) for row in rows)]
        (folder / name / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    for name in ("attributes", "captions", "pairs"):
        train(folder, name, str(folder / name))
    train(folder, "labels", "digits")
    return folder


def train(folder: Path, name: str, data: str) -> None:
    words = f"train made --conditional --steps 2 --batch 8 --model.hidden 8 --data {data} --out {folder}/run-{name}"
    assert main.dispatch(words.split()) == 0


def sampled(runs: Path, name: str, *options: str) -> torch.Tensor:
    out = runs / "sampled.npz"
    assert main.dispatch(["sample", str(runs / f"run-{name}"), "--out", str(out), *options]) == 0
    x = torch.from_numpy(numpy.load(out)["x"])
    out.unlink()
    return x


@pytest.mark.parametrize(
    ("name", "option", "y"),
    [
        ("attributes", "odd=1,big=0", torch.tensor([1, 0])),
        ("attributes", "big=1,*=0", torch.tensor([0, 1])),
        ("captions", "A red one", torch.tensor([2, 4, 3])),
        ("pairs", "pairs/condition/7.png", torch.full((1, 2, 2), 70)),
        ("labels", "7", torch.tensor(7)),
    ],
)
def test_a_condition_is_what_its_words_stand_for(
    runs: Path, name: str, option: str, y: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: another order of the names, another token, a picture at another scale."""
    monkeypatch.chdir(runs)
    x = sampled(runs, name, "-n", "5", "--condition", option)
    model = dgm.load(runs / f"run-{name}")
    assert torch.equal(x, dgm.sample(model, 5, y))
    assert not torch.equal(x, dgm.sample(model, 5, torch.zeros_like(y)))
    if name != "pairs":
        assert torch.equal(x, dgm.sample(model, 5, option))


def test_a_file_of_conditions_has_a_sample_each(runs: Path, tmp_path: Path) -> None:
    """Kills: one condition for all, columns in the model's order and not by name."""
    (tmp_path / "rows.csv").write_text("big,odd\n0,1\n1,0\n1,1\n", encoding="utf-8")
    y = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.uint8)
    expected = dgm.sample(dgm.load(runs / "run-attributes"), 3, y)
    assert torch.equal(sampled(runs, "attributes", "--condition", str(tmp_path / "rows.csv")), expected)
    numpy.savez(tmp_path / "rows.npz", condition=y.numpy())
    assert torch.equal(sampled(runs, "attributes", "--condition", str(tmp_path / "rows.npz")), expected)
    (tmp_path / "texts.csv").write_text("caption\ntwo\na red one\n", encoding="utf-8")
    captions = dgm.sample(dgm.load(runs / "run-captions"), 2, ["two", "a red one"])
    assert torch.equal(sampled(runs, "captions", "--condition", str(tmp_path / "texts.csv")), captions)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("attributes", "--condition odd=1", "lacks big"),
        ("attributes", "--condition odd=1,bigg=0", "did you mean 'big'"),
        ("attributes", "--label 1", "condition is binary 2 and not a label"),
        ("attributes", "--condition none.csv", "there is no file none.csv"),
        ("attributes", "--condition rows.csv -n 3", "-n 3 samples of 2 conditions"),
        ("attributes", "--condition bad.csv", "row 3: odd: '2' is not a value of the condition, expected 0 or 1"),
        ("attributes", "--condition empty.csv", "has no row below its header"),
        ("attributes", "--condition pairs/x/3.png", "is a picture, and this model's condition is binary 2"),
        ("attributes", "--condition x.npz", "has no array 'condition', only x"),
        ("attributes", "--condition 1,0 --label 3", "both --label and --condition"),
        ("captions", "--condition reed", "did you mean 'red'"),
        ("captions", "--condition rows.csv", "has the columns odd, big, expected one"),
        ("pairs", "--condition 3", "give a picture or an .npz file"),
        ("pairs", "--condition rows.csv", "cannot be written"),
        ("labels", "--label eight", "no label of this run is called 'eight'"),
    ],
)
def test_what_is_no_condition_is_refused(
    runs: Path, name: str, options: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    for file, text in (("rows", "odd,big\n1,0\n0,0\n"), ("bad", "odd,big\n1,0\n2,0\n"), ("empty", "odd,big\n")):
        (runs / f"{file}.csv").write_text(text, encoding="utf-8")
    numpy.savez(runs / "x.npz", x=numpy.zeros((3, 2)))
    with pytest.raises(DgmError) as error:
        main.dispatch(["sample", f"run-{name}", "--out", "none.npz", *options.split()])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (runs / "none.npz").exists()


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("attributes", lambda c: c["names"].update(columns=["odd"]), "its names are not as many as its values"),
        ("attributes", lambda c: c["names"].update(columns="odd"), "columns must be a list of texts"),
        ("attributes", lambda c: c["names"].update(offset="1"), "the offset must be a whole number"),
        ("captions", lambda c: c["space"].update(values=9), "it differs from the model's"),
        ("captions", lambda c: c["names"].update(parts=[]), "names must be an object"),
        ("labels", lambda c: c.update(names=3), "condition.names must be an object"),
        ("labels", lambda c: c["space"].update(kind="colours"), "no kind of space is called 'colours'"),
    ],
)
def test_a_run_whose_condition_is_damaged_is_refused(
    runs: Path, tmp_path: Path, name: str, spoil: Callable[[dict], None], said: str
) -> None:
    config = json.loads((runs / f"run-{name}" / "config.json").read_text(encoding="utf-8"))
    spoil(config["data"]["condition"])
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DamagedRun, match=said):
        Run(tmp_path)


def test_a_model_without_a_condition_has_none_to_name(runs: Path) -> None:
    words = f"train made --steps 1 --model.hidden 8 --data {runs / 'attributes'} --out {runs}/run-plain"
    assert main.dispatch(words.split()) == 0
    for options in (["--label", "1"], ["--condition", "odd=1"]):
        with pytest.raises(DgmError, match="trained without a condition"):
            main.dispatch(["sample", str(runs / "run-plain"), "--out", str(runs / "none.npz"), *options])
    with pytest.raises(BadInput, match="this data has no condition"):
        train(runs, "none", "toy/moons")


def test_an_evaluation_of_one_condition_is_printed_and_not_kept(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    how = ["--samples", "20", "--features", "pixels", "--json"]
    assert main.dispatch(["evaluate", "run-labels", "--label", "7", *how]) == 0
    document = json.loads(capsys.readouterr().out)
    digits = dgm.data.load("digits")
    assert digits.test.y is not None
    assert document["likelihood"][0]["of"] == int((digits.test.y == 7).sum())
    assert not (runs / "run-labels" / "evaluation.json").exists()
