"""Symptoms of a training: what they measure, that measuring changes nothing, and when there is an alarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainees import SPACE, Point, points

import dgm
from dgm.data.toy import circle
from dgm.models.gan.base import duplicates
from dgm.models.gan.gan import GAN
from dgm.protocols import Symptom
from dgm.training import fit
from dgm.training.diagnosis import Diagnosis
from dgm.training.ema import EMA

PLANE = dgm.Space.continuous((2,))


class Ill(Point):
    """A model with a symptom that is as large as it is told."""

    values: Any = ()

    def __init__(self) -> None:
        super().__init__(SPACE, Point.Config())
        self.seen: list[float] = []

    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, Symptom]:
        assert not self.training
        torch.rand(1)
        self.seen.append(self.values(len(self.seen)))
        return {"fever": Symptom(self.seen[-1], 38.0, "it has a fever: cool it")}


def notes(values: Any) -> list[tuple[float, str]]:
    model = Ill()
    model.values = values
    steps = fit(model, points(), steps=40, batch=16, precision="32-true", validate_every=1000, select="last")
    return [(step.progress, step.note) for step in steps if step.note]


def test_an_alarm_is_raised_once_when_a_symptom_has_lasted() -> None:
    """Not of the first fifth, in which a generator may still be nearly constant. Kills: an alarm at the first sight, at
    each line, after it was well in between, at the limit itself.
    """
    ((progress, note),) = notes(lambda k: 39.0)
    assert note == "alarm: it has a fever: cool it"
    assert progress == pytest.approx(0.3)
    assert not notes(lambda k: 39.0 if k < 10 else 37.0)
    assert not notes(lambda k: 39.0 if k % 4 else 37.0)
    assert not notes(lambda k: 38.0)
    ((progress, _),) = notes(lambda k: 39.0 if k > 20 else 37.0)
    assert progress == pytest.approx(0.65)


def test_a_resumed_training_gives_the_same_alarms(tmp_path: Path) -> None:
    """Kills: symptoms that a checkpoint forgets, so that an alarm is late or comes twice."""

    class Other(Ill):
        values: Any = staticmethod(lambda k: 39.0)

    how: dict[str, Any] = {"steps": 40, "batch": 16, "precision": "32-true", "validate_every": 1000, "select": "last"}
    how["checkpoint_every"] = 0.0
    for stop in (10, 14):
        found, out = [], tmp_path / str(stop)
        for resume in (False, True):
            for step in fit(Other(), points(), out=out, resume=resume, **how):
                found.append((step.step, step.note))
                if not resume and step.step == stop:
                    break
        assert [step for step, note in found if "fever" in note] == [12]


def test_each_measurement_is_of_another_batch() -> None:
    """Of the next step's. Kills: the first batch each time."""

    class Looking(Ill):
        def __init__(self) -> None:
            super().__init__()
            self.x: list[Tensor] = []

        def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, Symptom]:
            self.x.append(x)
            return {}

    model, data = Looking(), points()
    list(fit(model, data, steps=3, batch=16, precision="32-true", select="last"))
    order = dgm.data.order(len(data.train), 0, 0)
    assert [torch.equal(x, data.train.x[order[16 * k :][:16]]) for k, x in enumerate(model.x, 1)] == [True] * 3


def test_measuring_changes_no_bit_of_the_training_and_is_in_the_log(tmp_path: Path) -> None:
    how: dict[str, Any] = {"steps": 12, "batch": 32, "precision": "32-true"}
    ring = dgm.data.load("toy/ring")
    weights = []
    for asked in (True, False):
        torch.manual_seed(0)
        model = GAN(PLANE, GAN.Config(width=4))
        if not asked:
            model.diagnose = lambda x, y=None: {}  # type: ignore[method-assign]
        list(fit(model, ring, **how, out=tmp_path / str(asked)))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    lines = [
        json.loads(line) for line in (tmp_path / "True" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    named = {"saturation", "duplicates", "gradient norm of generator", "gradient norm of discriminator"}
    assert all(named <= line["symptoms"].keys() for line in lines)
    assert {"modes covered", "share of modes missed"} <= lines[-1]["symptoms"].keys()
    assert all(line["symptoms"]["gradient norm of generator"] > 0 for line in lines)


class Scaled(Point):
    """The centres of a ring's modes, times a parameter."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__(PLANE, Point.Config())
        self.centres, self.scale = centres, nn.Parameter(torch.ones(()))

    def sample(self, n: int, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        return (self.scale * self.centres).repeat(n, 1)[:n].detach()

    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, Symptom]:
        return {}


def test_modes_are_those_of_samples_of_the_averaged_weights() -> None:
    """All eight of the average's; the weights of the last step have none, and stay as they are."""
    ring = dgm.data.load("toy/ring")
    model = Scaled(circle(8).float())
    ema = EMA(model, 0.9)
    model.scale.data.fill_(0)
    values, _ = Diagnosis(model, model, ring, ema).measure(0.5, ring.train.x[:8], None, {})
    assert (values["modes covered"], values["share of modes missed"]) == (8, 0)
    assert model.scale == 0
    for covered, ill in ((4, False), (3, True)):  # an alarm is of less than half of the modes
        some = Scaled(circle(8)[:covered].float())
        symptom = Diagnosis(some, some, ring, EMA(some, 0)).of_samples()["share of modes missed"]
        assert (symptom.value > symptom.limit) is ill


def test_copies_in_a_batch() -> None:
    real, fake = torch.randn(40, 2), torch.randn(40, 2)
    assert duplicates(real, fake) < 0.15
    assert duplicates(real, 0.001 * fake) == 1
    fake[:10] = fake[10:20]
    assert 0.5 <= duplicates(real, fake) < 0.65
    assert duplicates(real[:1], fake[:1]) == 0
    line = torch.arange(41.0)[:, None]
    far = torch.cat([line[:-1], torch.tensor([[1e6]])])  # one outlier is no measure of distances
    assert duplicates(far, line) == 0


def test_saturation_is_of_real_examples_as_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sure that real ones are real, unsure of the others: half. Kills: the two exchanged, which would be no share."""
    gan = GAN(PLANE, GAN.Config(objective="non_saturating"))
    monkeypatch.setattr(gan, "generated_like", lambda real, y: -real)
    monkeypatch.setattr(gan, "judged", lambda x, y: 50 * x[:, 0].clamp_min(0))
    assert gan.diagnose(torch.ones(6, 2))["saturation"].value == 0.5


@pytest.mark.parametrize(
    ("objective", "sure", "expected"),
    [("non_saturating", 3.0, 0.0), ("non_saturating", 6.0, 1.0), ("hinge", 1.1, 1.0), ("wasserstein", 99.0, 0.0)],
)
def test_saturation_is_the_share_without_a_gradient(objective: Any, sure: float, expected: float) -> None:
    """|dL/dV| is sigmoid(-6) = 0.0025 and sigmoid(-3) = 0.047 of the logistic loss, 0 beyond the hinge, 1 at last."""
    gan = GAN(PLANE, GAN.Config(objective=objective))
    v = torch.full((8,), sure)
    assert gan.saturation(v, -v) == expected
    half = v * torch.tensor([1.0, 0.0]).repeat(4)
    assert gan.saturation(half, -half) == expected / 2
    assert gan.saturation(v, 0 * v) == gan.saturation(0 * v, -v) == expected / 2  # each player's examples count
