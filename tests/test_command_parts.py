"""What commands make of their options, and the numbers that they print, without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from dgm.cli import condition, edit_rows, evaluate_results, given, images, sample, scores
from dgm.cli.main import main
from dgm.data import sound
from dgm.edit import Imputed
from dgm.errors import BadInput
from dgm.evaluation.rows import Scores
from dgm.likelihood import Kind
from dgm.protocols import State
from dgm.space import Space

GREY = Space.levels((1, 4, 6), 17)


def saved(path: Path, shades: list[list[int]]) -> Path:
    Image.fromarray(numpy.array(shades, numpy.uint8)).save(path)
    return path


def test_a_picture_is_given_in_the_levels_of_the_data(tmp_path: Path) -> None:
    """White is the highest level. A lower picture is the upper part and known; of another the first half is."""
    upper = saved(tmp_path / "a.png", [[0, 255, 128, 0, 0, 0]] * 3)
    x, kept = given.picture(upper, GREY, {}, None)
    assert x[0, 0].tolist() == [[0, 16, 8, 0, 0, 0]] * 3 + [[0] * 6]
    assert kept == 18
    whole = saved(tmp_path / "b.png", [[255] * 6] * 4)
    assert [given.picture(whole, GREY, {}, share)[1] for share in (None, 0.25, 1.0, 0.0)] == [12, 6, 24, 0]
    assert condition.picture(upper.with_name("b.png"), GREY).unique().tolist() == [16]
    colour = Space.levels((3, 4, 6), 256)
    assert given.picture(whole, colour, {}, None)[1] == 36  # a pixel has three numbers


def test_the_end_of_a_prompt_and_the_beginning_of_a_sound_are_given(tmp_path: Path) -> None:
    about = {"alphabet": "abcde", "options": {}}
    x, kept = given.words("abcdeabc", Space.tokens(5, 5), about, None)
    assert (x.tolist(), kept) == ([[4, 0, 1, 2, 0]], 4)  # the last place is the next one
    assert given.words("abcd", Space.tokens(5, 5), about, 0.5)[0].tolist() == [[0, 1, 0, 0, 0]]
    levels = torch.arange(100, 180, dtype=torch.uint8)
    sound.write(levels, 8000, tmp_path / "a.wav")
    x, kept = given.heard(tmp_path / "a.wav", Space.levels((1, 50), 256), {"rate": 8000}, 0.5)
    assert kept == 40
    assert given.heard(tmp_path / "a.wav", Space.levels((1, 50), 256), {"rate": 8000}, None)[1] == 50
    assert torch.equal(x[0, 0, :40], levels[:40])
    assert x[0, 0, 40:].tolist() == [128] * 10  # silence


def test_masks_are_halves_or_what_is_not_white(tmp_path: Path) -> None:
    masks = {name: images.missing(name, GREY).int().tolist() for name in ("top", "bottom", "left", "right")}
    assert masks["top"] == [[1] * 6] * 2 + [[0] * 6] * 2
    assert masks["bottom"] == [[0] * 6] * 2 + [[1] * 6] * 2
    assert masks["left"] == [[1, 1, 1, 0, 0, 0]] * 4
    assert masks["right"] == [[0, 0, 0, 1, 1, 1]] * 4
    centre = images.missing("centre", Space.levels((1, 4, 8), 17)).int().tolist()
    assert centre == [[0] * 8, [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0], [0] * 8]
    drawn = saved(tmp_path / "mask.png", [[255, 250, 249, 0, 255, 255]] * 4)
    assert images.missing(str(drawn), GREY).int().tolist() == [[0, 0, 1, 1, 0, 0]] * 4


def test_states_are_evenly_spaced_to_the_last_and_samples_are_as_many_as_conditions() -> None:
    states = (State(torch.tensor(k), k, 10) for k in range(11))
    assert [int(x) for x in sample.evenly_spaced(states, 3)] == [0, 5, 10]
    assert [int(x) for x in sample.evenly_spaced((State(torch.tensor(k), k, 1) for k in (0, 1)), 4)] == [0, 0, 1, 1]
    many = torch.zeros(5)
    assert [condition.number_of_samples(n, y) for n, y in ((None, None), (3, many[:1]), (None, many), (5, many))] == [
        64, 3, 5, 5,
    ]  # fmt: skip
    with pytest.raises(BadInput, match="-n 4 samples of 5 conditions"):
        condition.number_of_samples(4, many)


@pytest.mark.parametrize("model", ["lsgan", "gan"])  # whose default is false, and true
def test_a_switch_is_given_alone_or_with_its_value(model: str, tmp_path: Path) -> None:
    """Kills: a switch that takes no value, one that needs a value, false read as a word that is not empty."""
    for k, (value, expected) in enumerate([([], True), (["true"], True), (["false"], False)]):
        out = str(tmp_path / str(k))
        command = ["train", model, "--data", "toy/ring", "--model.width", "4", "--steps", "1", "--out", out]
        assert main([*command, "--model.spectral-norm", *value]) == 0
        described = json.loads(Path(out, "config.json").read_text(encoding="utf-8"))["model"]
        assert described["config"]["spectral_norm"] is expected


def test_scores_are_numbered_from_one() -> None:
    nats = torch.tensor([-1.25, -torch.inf])
    found = Scores(nats, [Kind.EXACT, Kind.LOWER_BOUND], torch.tensor([2, 1]), "")
    lines = ["row,log_density,kind,anomaly_rank,held_out_share", "1,-1.25,exact,2,0.75", "2,-inf,lower bound,1,0"]
    assert scores.as_csv(found, torch.tensor([0.75, 0.0])).splitlines() == lines


def test_draws_that_few_weights_make_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    effective = torch.tensor([[4.9, 5.0, torch.inf, torch.inf, 64.0]])
    edit_rows.say(Imputed(torch.zeros(1), torch.zeros(1), None, "so", effective, 128))
    printed = capsys.readouterr()
    assert "of 128: median 5, smallest 4.9" in printed.out
    assert printed.err.startswith("dgm: 1 draws are inaccurate")


def test_intervals_are_of_95_percent_and_divergences_are_sums(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"bits_per_dim": 2.0, "bits_per_dim_se": 0.1, "nats": -100.0, "nats_se": 5.0}
    about: dict[str, Any] = {"split": "test", "n": 100, "rule": "so"}
    evaluate_results.show_nats(row)
    evaluate_results.show_classification(
        about | {"accuracy": 0.99, "accuracy_se": 0.01, "log_p": -0.5, "calibration_error": 0.125}
    )
    codes = {"active_units": 1, "of": 2, "kl": [0.5, 1.5], "mutual_information": 1.25}
    evaluate_results.show_codes(about | codes)
    evaluate_results.show_bracket(about | {"lower": -90.0, "upper": -88.0, "gap": 2.0, "gap_se": 0.5})
    evaluate_results.show_shares("copies", {"share": 0.125, "held_out_share": 0.25})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if not line.endswith(": so")] == [
        "bits/dim 2 1.804 … 2.196",
        "nats -100 -109.8 … -90.2",
        "the labels by p(y|x): test, N = 100; so",
        "accuracy 99.00% 0.9704 … 1",
        "log p(y|x), nats -0.5",
        "calibration error 0.125",
        "the code: N = 100; so",
        "active dimensions 1 of 2",
        "KL(q(z|x) || p(z)) 2",
        "of each dimension 0.5 … 1.5",
        "I(x; z), nats 1.25",
        "so, N = 100",
        "lower bound, nats -90",
        "upper bound, nats -88",
        "gap, nats 2 1.02 … 2.98",
        "copies",
        "share 12.5% held out: 25.0%",
    ]
