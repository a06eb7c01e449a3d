"""What is written about a training while it runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from trainees import SPACE, Normal, points

from dgm import runs
from dgm.training import Step, fit


def normal() -> Normal:
    return Normal(SPACE, Normal.Config())


def steps_and_run(out: Path, **settings: object) -> tuple[list[Step], runs.Run]:
    return list(fit(normal(), points(), out=out, **settings)), runs.Run(out)


def test_a_line_says_what_the_step_said(tmp_path: Path) -> None:
    steps, run = steps_and_run(tmp_path / "run", steps=6, batch=16, validate_every=3)
    lines = run.metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line, step in zip(lines, steps, strict=True):
        assert line["losses"] == dict(step.losses)
        assert (line["examples"], line["lr"], line["seconds"]) == (16 * step.step, step.lr, step.seconds)
        assert line.get("validation") == step.validation
        assert line["progress"] == step.step / 6


def test_a_line_says_the_unit_that_the_model_states(tmp_path: Path) -> None:
    units = []
    for unit in ("", "nats a dimension"):
        model = normal()
        model.loss_unit = unit  # type: ignore[assignment]
        list(fit(model, points(), out=tmp_path / unit.replace(" ", "-") / "run", steps=2))
        units.append([line.get("unit") for line in runs.Run(tmp_path / unit.replace(" ", "-") / "run").metrics()])
    assert units == [[None, None], ["nats a dimension"] * 2]


def test_long_trainings_write_no_more_than_short_ones(tmp_path: Path) -> None:
    _, run = steps_and_run(tmp_path / "run", steps=1000, batch=4, select="last", precision="32-true")
    lines = [line["step"] for line in run.metrics()]
    assert len(lines) == 200
    assert lines[-1] == 1000


def test_the_run_says_how_it_was_made(tmp_path: Path) -> None:
    _, run = steps_and_run(tmp_path / "run", steps=2, lr=0.25, batch=7)
    assert run.config["training"] | {"lr": 0.25, "batch": 7, "steps": 2, "budget": None} == run.config["training"]
    assert run.config["model"]["name"] == "trainees:Normal"
    assert run.config["data"]["name"] == "points"
    model = runs.load(tmp_path / "run", model=Normal)
    assert isinstance(model, Normal)


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps, run = steps_and_run(tmp_path / "run", steps=4, batch=16, validate_every=2, tensorboard=True)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss/model")]
    assert losses == [(step.step, pytest.approx(step.losses["model"])) for step in steps]
    validations = {event.step: event.value for event in events.Scalars("loss/validation")}
    assert validations == {step.step: pytest.approx(step.validation) for step in steps if step.validation is not None}
    assert math.isfinite(validations[4])
