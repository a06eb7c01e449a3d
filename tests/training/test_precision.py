"""The probe that chooses the precision: what it chooses, and that it leaves no trace."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from trainees import SPACE, Noisy, made, points

from dgm import runs
from dgm.training import fit, precision


def timing(monkeypatch: pytest.MonkeyPatch, in_float32: float, in_bf16: float) -> list[str]:
    """Steps take what they are said to, and are taken all the same; the list is of their precisions."""
    took, done = {precision.FLOAT32: in_float32, precision.BF16: in_bf16}, []
    real = precision.step_seconds

    def stepped(model: Any, x: Any, y: Any, device: Any, chosen: str) -> float:
        done.append(chosen)
        numpy.random.rand()
        random.random()  # a model may draw from any of them
        return took[chosen] if math.isfinite(real(model, x, y, device, chosen)) else math.inf

    monkeypatch.setattr(precision, "step_seconds", stepped)
    return done


def trained(name: str, **settings: Any) -> dict[str, Any]:
    model = made(name)
    steps = fit(model, points(), **({"steps": 300, "batch": 16, "patience": 0} | settings))
    notes = [step.note for _, step in zip(range(20), steps, strict=False) if step.note]
    steps.close()
    return {"notes": notes, "weights": model.state_dict(), "draws": (random.random(), numpy.random.rand())}


@pytest.mark.parametrize("name", ["noisy", "duel"])
@pytest.mark.parametrize(("chosen", "ratio"), [("32-true", 1.19), ("bf16-mixed", 1.2)])
def test_leaves_the_bits_of_the_precision_named_outright(
    name: str, chosen: str, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: steps of the model itself, random states not put back, 1.2 times on the wrong side."""
    done, found = timing(monkeypatch, ratio, 1.0), []
    for named in ("auto", chosen):
        random.seed(0)
        numpy.random.seed(0)
        found.append(trained(name, precision=named))
    assert done[:4] == ["32-true", "bf16-mixed"] * 2
    torch.testing.assert_close(found[0]["weights"], found[1]["weights"], rtol=0, atol=0)
    assert found[0]["draws"] == found[1]["draws"]
    assert found[0]["notes"][0].startswith(f"precision {chosen}: a step's loss and gradient take {1e3 * ratio:.3g} ms")
    assert found[1]["notes"] == []


def test_a_run_keeps_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing(monkeypatch, 2.0, 1.0)
    out = tmp_path / "run"
    next(fit(made("noisy"), points(), out=out, steps=300, checkpoint_every=0.0))
    assert runs.Run(out).config["training"]["precision"] == "bf16-mixed"
    assert runs.Run(out).metrics()[0]["note"].startswith("precision bf16-mixed: ")
    done = timing(monkeypatch, 1.0, 2.0)
    next(fit(made("noisy"), points(), out=out, resume=True))
    assert runs.Run(out).config["training"]["precision"] == "bf16-mixed"
    assert done == []


def test_a_training_of_few_steps_or_little_time_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds are four steps, a fiftieth of 200. Kills: a second spent whatever the training lasts."""
    done = timing(monkeypatch, 0.01, 0.001)
    assert trained("noisy", steps=199)["notes"] == []
    assert done == []
    assert trained("noisy", steps=None, budget=1.9)["notes"] == []  # four steps of 10 ms are more than 38 ms
    assert done == ["32-true"]
    assert trained("noisy", steps=None, budget=100.0)["notes"] != []


@pytest.mark.parametrize(("pace", "rounds"), [(0.0, 10), (0.4, 4), (2.0, 2)])
def test_steps_are_timed_for_a_second_or_ten_rounds(pace: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is asked at the start and after each round from the second on; the first round, which warms up, is
    not counted even where it is the fastest.
    """
    clock = iter(pace * k for k in range(100))
    times = iter([1.0, 1.0, *(3.0 + k for k in range(2 * rounds - 2))])
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(precision, "step_seconds", lambda *of: next(times))
    x, y = points().train.batch(torch.arange(4))
    settings = precision.Settings(budget=1e6)
    assert precision.timed(made("noisy"), x, y, settings, torch.device("cpu")) == (3.0, 4.0)
    assert next(times, None) is None


class OnlyFloat32(Noisy):
    def loss(self, x: Any, y: Any = None) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for bfloat16")
        return super().loss(x, y)


class Overflowing(Noisy):
    def loss(self, x: Any, y: Any = None) -> Any:
        return super().loss(x, y) * (math.inf if torch.is_autocast_enabled("cpu") else 1)


@pytest.mark.parametrize("cls", [OnlyFloat32, Overflowing])
def test_a_loss_that_bf16_does_not_run_is_trained_in_float32(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timing(monkeypatch, 2.0, 1.0)
    steps = fit(cls(SPACE, cls.Config()), points(), steps=300)
    assert math.isfinite(next(steps).losses["model"])


def test_a_timed_step_leaves_no_gradient_and_one_that_is_not_finite_takes_for_ever() -> None:
    model, cpu = Noisy(SPACE, Noisy.Config()), torch.device("cpu")
    x = points().train.x[:4]
    assert math.isfinite(precision.step_seconds(model, x, None, cpu, precision.FLOAT32))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert math.isinf(precision.step_seconds(model, x * torch.nan, None, cpu, precision.FLOAT32))
