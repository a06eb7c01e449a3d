"""When the loss on held-out data is measured, which weights it selects, and when it ends the training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from trainees import SPACE, Normal, Point, made, points

from dgm import runs, tensor_files
from dgm.data import Dataset, Split
from dgm.errors import Unsupported
from dgm.space import Space
from dgm.training import Step, fit
from dgm.training.validation import patience, turning

RATE = 0.01  # a step of the point


def crossing(at: float, n: int = 64) -> Dataset:
    """Training data around 4, and held-out data around ``at``: a point from 0 on comes by there, and leaves it."""
    train, held_out = (
        Split(mean + torch.linspace(-0.1, 0.1, size)[:, None].expand(size, 4)) for mean, size in ((4, n), (at, n // 4))
    )
    return replace(points(n), train=train, validation=held_out)


def point() -> Point:
    return Point(SPACE, Point.Config())


def passing(at: float, **settings: Any) -> list[Step]:
    chosen = {"batch": 64, "lr": RATE, "schedule": "constant", "precision": "32-true"} | settings
    return list(fit(point(), crossing(at), **chosen))


def validated(steps: list[Step]) -> list[int]:
    return [step.step for step in steps if step.validation is not None]


# -- when


def test_from_the_first_epoch_on_and_then_a_quarter_later_each() -> None:
    """32 held-out examples cost 32 / 3 / 64 of a step of 64, a tenth of which may go there: 1.7 steps apart or more.

    Kills: a first validation after a twentieth of the training, a linear start, no twenty of them later.
    """
    at = validated(list(fit(Normal(SPACE, Normal.Config()), points(), steps=400, batch=64, lr=0.0, patience=0)))
    assert at[:10] == [1, 3, 5, 7, 9, 12, 15, 19, 24, 30]
    assert at[-16:] == list(range(100, 401, 20))


def test_validations_take_a_tenth_of_the_time() -> None:
    """A forward pass over V examples costs V / 3 batch steps: with V = 32, batch 4, that is one in 27 steps.

    The first one ends the epoch of 16 steps whatever it costs.
    """
    steps = list(fit(Normal(SPACE, Normal.Config()), points(), steps=100, batch=4))
    assert validated(steps) == [16, 43, 70, 97, 100]


@pytest.mark.parametrize("bend", [-1, 0, 1, 4])
def test_turning_is_the_parabolas_vertex(bend: float) -> None:
    """Over u = log(step), loss = bend (u - vertex)²: at three steps it turns ahead where the vertex lies ahead.

    Kills: losses over the steps themselves, a slope at the middle of the last two steps, a turn that is behind.
    """
    marks = (100, 110, 140)
    for vertex in (3.0, 4.5, 4.9, 4.96, 5.1, 5.16, 5.2, 6.0):
        losses = [(step, bend * (math.log(step) - vertex) ** 2) for step in marks]
        ahead = math.log(140) < vertex < math.log(140) + math.log(1.25)
        assert turning(losses) == (ahead and bend > 0), vertex


def test_where_the_loss_turns_it_is_looked_at_more_often() -> None:
    """A sixteenth later each, while the least loss lies ahead. Kills: another share than a sixteenth."""
    at = validated(passing(1.1, steps=4000, patience=30))  # it comes by after 110 steps; a twentieth of all is 200
    gaps = {step: after - step for step, after in pairwise(at)}
    finest = min((step for step in gaps if 90 <= step <= 150), key=lambda step: gaps[step] / step)
    assert gaps[finest] == math.ceil(finest / 16)
    assert min(gap / step for step, gap in gaps.items() if 20 <= step <= 60) > 0.2


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
def test_the_weights_selected_are_those_of_the_turn(at: float) -> None:
    """A twentieth of the 4,000 steps would come by first at 2. Off by a sixteenth of the way, and a step."""
    model = point()
    list(fit(model, crossing(at), batch=64, lr=RATE, schedule="constant", steps=4000, patience=20))
    assert (model.mean - at).abs().max() < at / 16 + RATE


# -- how long


def test_stops_when_thirty_epochs_and_a_fifth_of_the_training_gained_nothing() -> None:
    steps = passing(0.5, steps=500)
    best = min((step.validation, step.step) for step in steps if step.validation is not None)[1]
    last, validations = steps[-1].step, validated(steps)
    enough = [step for step in validations if step - best >= max(30, 0.2 * 500)]
    assert last == enough[0] < 500
    assert [step.step for step in steps if step.note] == [last]
    assert steps[-1].note.startswith(f"stopped: the validation loss was lowest after step {best} (")
    assert steps[-1].note.endswith(f"has not improved in the {last - best} epochs since")


@pytest.mark.parametrize(("batch", "steps", "waits"), [(16, 400, 30 * 4), (16, 1000, 200), (64, 100, 30)])
def test_what_it_waits_for_is_thirty_epochs_or_a_fifth_of_all_steps(batch: int, steps: int, waits: int) -> None:
    """Whichever is more; validated after each step. Kills: another number of epochs, or another share."""
    seen = passing(0.2, steps=steps, batch=batch, validate_every=1)
    best = min((step.validation, step.step) for step in seen)[1]
    assert seen[-1].step == best + waits


def test_patience_counts_epochs() -> None:
    """Of four steps each. Kills: patience in steps or in validations."""
    steps = passing(0.5, steps=2000, batch=16, patience=5, validate_every=1)
    best = min((step.validation, step.step) for step in steps)[1]
    assert steps[-1].step == best + 20
    assert passing(0.5, steps=100, batch=16, patience=0)[-1].step == 100


def test_a_loss_that_stays_the_same_is_no_better() -> None:
    """Kills: the last of equal losses as the best one, with which a training that stands still never stops."""
    assert passing(0.5, steps=100, lr=0.0, patience=5, validate_every=1)[-1].step == 6


def test_a_loss_that_falls_goes_on() -> None:
    assert passing(4.0, steps=100, validate_every=1, patience=1)[-1].step == 100


def test_the_default_is_for_small_sets_and_tables() -> None:
    def of(n: int, space: Space) -> Dataset:
        return replace(points(), space=space, train=Split(torch.zeros(n, 1)))

    table, images, text = Space.continuous((5,)), Space.levels((1, 8, 8), 17), Space.tokens(64, 50)
    cases = [(50_000, table, True), (10_000, images, True), (10_001, images, False), (10_001, text, False)]
    assert [patience("auto", of(n, space))[0] > 0 for n, space, _ in cases] == [stops for *_, stops in cases]
    assert patience(7, of(50_000, images)) == (7, 0.0)


def test_patience_with_what_is_not_validated_is_refused() -> None:
    for model, settings in [(made("duel"), {}), (made("creeping"), {}), (point(), {"select": "last"})]:
        with pytest.raises(Unsupported, match="patience counts epochs"):
            fit(model, points(), patience=3, **settings)
        fit(model, points(), patience=0, **settings)


# -- over a stop


def test_goes_on_to_the_same_validations_and_the_same_end(tmp_path: Path) -> None:
    """Kills: the losses that foretell the turn, or the step of the best one, not restored."""
    settings = {"batch": 64, "lr": RATE, "schedule": "constant", "steps": 300, "precision": "32-true"}
    whole = list(fit(point(), crossing(0.5), **settings))
    for stop in (30, 45, 60, 90):
        out = tmp_path / str(stop)
        steps = fit(point(), crossing(0.5), out=out, checkpoint_every=0.0, **settings)
        assert [next(steps).step for _ in range(stop)][-1] == stop
        steps.close()
        rest = list(fit(point(), crossing(0.5), out=out, resume=True))
        assert validated(rest) == [step for step in validated(whole) if step >= rest[0].step]
        assert rest[-1].note == whole[-1].note != ""


def test_what_has_stopped_stays_so_until_it_is_asked_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"batch": 64, "lr": RATE, "schedule": "constant", "steps": 300, "precision": "32-true"}
    stopped = list(fit(point(), crossing(0.5), out=out, **settings))[-1]
    before = tensor_files.sha256(out / "weights.safetensors")
    assert list(fit(point(), crossing(0.5), out=out, resume=True)) == []
    assert tensor_files.sha256(out / "weights.safetensors") == before
    assert runs.Run(out).metrics()[-1]["note"] == stopped.note
    more = list(fit(point(), crossing(0.5), out=out, resume=True, patience=0))
    assert (more[0].step, more[-1].step) == (stopped.step + 1, 300)
    assert tensor_files.sha256(out / "weights.safetensors") == before


def test_a_run_says_where_its_weights_come_from(tmp_path: Path) -> None:
    out = tmp_path / "run"
    steps = list(fit(point(), crossing(0.5), out=out, batch=64, lr=RATE, schedule="constant", steps=300))
    best = min((step.validation, step.step) for step in steps if step.validation is not None)
    chosen = runs.Run(out).selection()
    assert chosen == runs.Selection(best[1], steps[-1].step, best[0], steps[-1].note)
    list(fit(point(), crossing(0.5), out=tmp_path / "last", steps=9, select="last", validate_every=2))
    assert runs.Run(tmp_path / "last").selection() == runs.Selection(9, 9, None, "")


def test_a_run_from_before_there_was_patience_goes_on_without(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"batch": 64, "lr": RATE, "schedule": "constant", "steps": 100, "precision": "32-true"}
    steps = fit(point(), crossing(0.5), out=out, checkpoint_every=0.0, **settings)
    assert [next(steps).step for _ in range(8)][-1] == 8
    steps.close()
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    del config["training"]["patience"]
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for folder in out.glob("checkpoints/*"):
        values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        values["validated"] = values.pop("validations")[-1][0]
        del values["best_step"]
        (folder / "state.json").write_text(json.dumps(values), encoding="utf-8")
        tensor_files.write_manifest(folder, ["state.safetensors", "state.json"])
    rest = list(fit(point(), crossing(0.5), out=out, resume=True))
    assert rest[-1].step == 100
    assert rest[0].validation is None  # a costly one, on a large set, that the last one leaves no time for
    assert runs.Run(out).config["training"]["patience"] == 0
