"""A training that diverges is rolled back once, to the same state however often it was killed before, and then ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trainees import SPACE, Drawn, points

from dgm import runs, tensor_files
from dgm.errors import Diverged
from dgm.training import Step, fit

# a step multiplies the distance of the point to the data by |1 - 2 lr|: by 7, and by 0.2 at a tenth of the rate
HOW: dict[str, Any] = {"steps": 100, "optimiser": "sgd", "lr": 4.0, "betas": (0.0, 0.9), "clip": 0.0, "batch": 64}
HOW |= {"schedule": "constant", "warmup": 0, "precision": "32-true", "select": "last", "validate_every": 1000}


def training(out: Path | None, resume: bool = False, **settings: Any) -> Iterator[Step]:
    return fit(Drawn(SPACE, Drawn.Config()), points(), out=out, resume=resume, **(HOW | settings))


def numbers(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in runs.Run(out).metrics()]


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    out = tmp_path_factory.mktemp("rolled") / "run"
    return out, list(training(out, checkpoint_every=1e9))


def test_a_training_goes_on_from_the_last_good_state_with_a_smaller_step(rolled_back: tuple[Path, list[Step]]) -> None:
    """From the older of two tenths. Kills: the newest one, a rate that stays, moments or lines that are kept."""
    out, steps = rolled_back
    order = [step.step for step in steps]
    (back,) = [k for k in range(1, len(order)) if order[k] <= order[k - 1]]
    diverged, start = order[back - 1] + 1, order[back]
    assert 20 < diverged < 30  # 7^2k passes 3e38 after 23 steps
    assert start == 11
    assert order[back:] == list(range(11, 101))
    assert {step.lr for step in steps[:back]} == {4.0}
    assert {round(step.lr, 6) for step in steps[back:]} == {0.4}
    note = steps[back].note
    assert note.startswith(f"the loss of 'model' is inf at step {diverged}, after ")
    assert note.endswith("at the steps before: rolled back to step 10, with a tenth of the learning rate")
    losses = [float(value) for value in note.split("after ")[1].split(" at")[0].split(", ")]
    assert losses[1:] == pytest.approx([49 * loss for loss in losses[:-1]], rel=0.02)  # three digits are printed
    assert steps[-1].losses["model"] < 30
    assert [line["step"] for line in numbers(out)] == list(range(1, 101))
    assert not (out / "rollback").exists()


@pytest.mark.parametrize("at", [6, 13, 22, 40])
def test_it_is_rolled_back_to_the_same_bits(at: int, tmp_path: Path, rolled_back: tuple[Path, list[Step]]) -> None:
    """Killed before the divergence and after. Kills: a mark by the time, a rate or a random state that is forgotten."""
    steps = training(tmp_path / "run", checkpoint_every=0.0)
    for _ in range(at):
        next(steps)
    steps.close()
    list(training(tmp_path / "run", resume=True, checkpoint_every=0.0))
    out, _ = rolled_back
    found, expected = (tensor_files.sha256(path / "weights.safetensors") for path in (tmp_path / "run", out))
    assert found == expected
    stripped = [[{**line, "note": ""} for line in numbers(path)] for path in (tmp_path / "run", out)]
    assert stripped[0] == stripped[1]  # the note names the losses before, of which a resumed training has seen fewer


def test_the_second_time_it_ends_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"with a tenth of the learning rate too; the last good .*step-.*; calm it$"):
        list(training(tmp_path / "run", lr=500.0, checkpoint_every=0.0))
    with pytest.raises(Diverged, match=r"with a tenth of the learning rate too; .*; calm it$"):
        list(training(tmp_path / "run", resume=True, lr=500.0))


def test_without_a_directory_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(
        Diverged, match=r"the loss of 'model' is inf at step \d+, after .* at the steps before; calm it$"
    ):
        list(training(None))


def test_weights_that_are_not_finite_are_rolled_back_too(tmp_path: Path) -> None:
    model = Drawn(SPACE, Drawn.Config())
    steps = fit(model, points(), out=tmp_path / "run", **(HOW | {"lr": 0.1, "checkpoint_every": 0.0}))
    assert [next(steps).step for _ in range(15)][-1] == 15
    model.mean.data[1] = torch.nan
    step = next(steps)
    assert step.step == 1
    assert step.note.startswith("the weights 'mean' are not finite after step 15: rolled back to step 0")
