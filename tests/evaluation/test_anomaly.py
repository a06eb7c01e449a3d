"""Anomaly scores in closed form, the area under their curve, and the command that prints them."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import dgm
from dgm.cli.main import main
from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput
from dgm.evaluation.anomaly import Scored, anomaly, auroc, code_lengths, gradient, permuted, row
from dgm.models.energy.jem import JEM
from dgm.protocols import Classifying
from dgm.space import Space

PLANE = Space.continuous((2,))


def test_the_area_is_that_of_scikit_learn() -> None:
    """With ties. Kills: the two batches exchanged, a tie that counts whole."""
    torch.manual_seed(0)
    inside, outside = torch.randint(8, (40,)).double(), torch.randint(2, 12, (25,)).double()
    label = [0] * 40 + [1] * 25
    assert auroc(inside, outside)[0] == pytest.approx(roc_auc_score(label, torch.cat([inside, outside])))


@pytest.mark.parametrize(("n", "m"), [(60, 15), (15, 60)])
def test_the_standard_error_is_that_of_repetitions(n: int, m: int) -> None:
    """Of normal scores two apart, of which one is wider. Kills: the two variances over each other's numbers."""
    torch.manual_seed(0)
    drawn = [auroc(torch.randn(n).double(), 2 + 3 * torch.randn(m).double()) for _ in range(800)]
    values, errors = torch.tensor(drawn, dtype=torch.float64).unbind(1)
    area = 0.5 * (1 + math.erf(2 / (1 + 9) ** 0.5 / 2**0.5))
    assert float(values.mean()) == pytest.approx(area, abs=4 * float(values.std()) / 800**0.5)
    # the deviation of 800 values is known to 1 in 40; the estimate is nearly unbiased
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.1)


def test_the_interval_is_within_zero_and_one() -> None:
    """1.96 standard errors to both sides, as far as there is an area. Kills: the larger of the two at either end."""
    torch.manual_seed(0)
    for shift in (0.0, 2.0, -2.0):
        inside, outside = torch.randn(12).double(), shift + torch.randn(9).double()
        found, (value, error) = row(inside, outside), auroc(inside, outside)
        assert found["low"] == pytest.approx(max(0.0, value - 1.96 * error))
        assert found["high"] == pytest.approx(min(1.0, value + 1.96 * error))
        assert (found["median"], found["median_of_anomalies"]) == (inside.median(), outside.median())


class Normal(nn.Module):
    """N(0, diag(1, 4)) with an energy, a lossy code z = x_0, and two labels by the sign of x_1."""

    space = PLANE

    def log_prob(self, x: Tensor, y: None = None) -> Tensor:
        return torch.distributions.Normal(0.0, torch.tensor([1.0, 2.0])).log_prob(x).sum(1)


class Lossy(Normal):
    capabilities = frozenset({dgm.protocols.Latent})

    def encode(self, x: Tensor, y: None = None) -> Tensor:
        return x[:, :1]

    def decode(self, z: Tensor, y: None = None) -> Tensor:
        return torch.cat([z, torch.zeros_like(z)], 1)


def data(x: Tensor) -> Dataset:
    split = Split(x)
    return Dataset(name="points", space=PLANE, split="none", train=Split(x + 1), validation=split, test=split)


X = torch.tensor([[0.0, 1.0], [1.0, -1.0], [0.5, 0.0], [0.2, 6.0]])
OTHER = torch.tensor([[3.0, 0.0], [0.0, 9.0]])


def scores(model: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The rows, with the scores of each in place of the area."""
    monkeypatch.setattr("dgm.evaluation.anomaly.row", lambda inside, outside: (inside, outside))
    return anomaly(model.eval(), data(X), OTHER, "other")["scores"]


def test_scores_of_a_normal_density(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: each sign, a typicality without the training data's mean, a gradient of the density for its logarithm."""
    found = scores(Normal(), monkeypatch)
    nats = Normal().log_prob(X)
    torch.testing.assert_close(found["log p"][0], -nats.double())
    torch.testing.assert_close(found["typicality"][0], (nats - Normal().log_prob(X + 1).mean()).abs().double())
    torch.testing.assert_close(found["gradient"][1], torch.tensor([3.0, 9 / 4]).double())
    assert set(found) == {"log p", "typicality", "gradient"}


def test_the_gradient_has_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a gradient in which the column of the smallest unit is the whole norm; of integers too."""
    units = torch.tensor([1e3, 1e-3])
    model = Normal()
    model.space = Space.continuous((2,), loc=(0.0, 0.0), scale=tuple(units.tolist()))
    monkeypatch.setattr(model, "log_prob", lambda x, y=None: Normal().log_prob(x / units), raising=False)
    monkeypatch.setattr("dgm.evaluation.anomaly.row", lambda inside, outside: (inside, outside))
    split = Split(X * units)
    points = Dataset(name="p", space=model.space, split="", train=split, validation=split, test=split)
    found = anomaly(model.eval(), points, OTHER * units, "other")["scores"]
    torch.testing.assert_close(found["gradient"][1], torch.tensor([3.0, 9 / 4]).double())
    record = Space.record(
        n=Space.levels((), 4, loc=(1.5,), scale=(2.0,)), r=Space.continuous((), loc=(0.0,), scale=(9.0,))
    )
    ebm = dgm.create("ebm", record)
    of = Scored(ebm, points, torch.tensor([[1.0, 5.0], [3.0, -2.0]]), *2 * [lambda: None])  # type: ignore[arg-type]
    v = ebm.model.scaling(ebm.cells.centre(of.x)).requires_grad_()
    (slope,) = torch.autograd.grad((ebm.model.potential(v) / ebm.model.temperature).sum(), v)
    torch.testing.assert_close(gradient(of), slope.norm(dim=1))


def test_an_energy_of_signs_has_no_gradient() -> None:
    """Kills: torch's own words about a function without one."""
    digits = dgm.data.load("digits")
    found = anomaly(dgm.create("hopfield", digits.space), digits, digits.train.x[:5], "other")
    assert "not differentiable" in next(one["reason"] for one in found["skipped"] if one["what"] == "gradient")


def test_reconstruction_and_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = scores(Lossy(), monkeypatch)
    assert set(found) == {"reconstruction"}
    torch.testing.assert_close(found["reconstruction"][0], X[:, 1].double().square())
    jem = JEM(PLANE, JEM.Config(width=2), Space.categories(3))
    assert Classifying in jem.capabilities
    found = scores(jem, monkeypatch)
    torch.testing.assert_close(found["confidence"][1], -jem.label_log_probs(OTHER).exp().amax(1).double().detach())
    torch.testing.assert_close(found["log p"][0], jem.energy(X).double().detach())
    z = OTHER.requires_grad_()
    (slope,) = torch.autograd.grad(jem.energy(z).sum(), z)
    OTHER.requires_grad_(False)
    torch.testing.assert_close(found["gradient"][1], slope.norm(dim=1).double())


def test_an_invertible_code_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where integers are dequantised. Kills: the squared error of a rounding."""
    space = Space.levels((4,), 5)
    monkeypatch.setattr("dgm.evaluation.anomaly.row", lambda inside, outside: (inside, outside))
    x = torch.randint(5, (6, 4)).to(space.dtype)
    integers = Dataset(name="x", space=space, split="none", train=Split(x), validation=Split(x[:0]), test=Split(x))
    found = anomaly(dgm.create("realnvp", space), integers, x, "other")
    scored, log_p = found["scores"], found["scores"]["log p"][0]
    assert set(scored) == {"log p", "typicality", "complexity"}
    torch.testing.assert_close(scored["complexity"][0], log_p - code_lengths(x, space))  # of the same draws
    assert found["likelihood"]["kind"] == "lower_bound"


def test_complexity_is_the_length_of_a_png_file() -> None:
    space = Space.levels((1, 8, 8), 17)
    plain, busy = torch.full((1, 1, 8, 8), 3, dtype=torch.uint8), torch.randint(17, (1, 1, 8, 8)).to(torch.uint8)
    lengths = code_lengths(torch.cat([plain, busy]), space)
    file = io.BytesIO()
    Image.fromarray(busy[0, 0].numpy()).save(file, format="PNG", optimize=True)
    assert lengths[1].item() == pytest.approx(8 * len(file.getvalue()) * math.log(2))
    assert lengths[0] < lengths[1]
    row = code_lengths(torch.zeros(1, 50, dtype=torch.uint8), Space.binary((50,)))
    assert row.item() < 8 * 20 * math.log(2)


def test_permuted_data_keeps_each_dimension_alone() -> None:
    x = torch.arange(60.0).view(20, 3)
    found = permuted(x, 1)
    assert torch.equal(found.sort(0).values, x)
    assert ((found[:, 1] - found[:, 0]) != 1).any()
    assert torch.equal(found, permuted(x, 1))
    assert not torch.equal(found, permuted(x, 2))


def test_nothing_to_score_is_refused() -> None:
    gan = dgm.create("gan", PLANE, width=4)
    with pytest.raises(BadInput, match="GAN has no score"):
        anomaly(gan, data(X), OTHER, "other")
    with pytest.raises(BadInput, match="two examples of each, got 4 and 1"):
        anomaly(Normal(), data(X), OTHER[:1], "other")


def test_the_command_prints_a_table_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "gmm")
    assert main(["train", "gmm", "--data", "toy/moons", "--model.components", "8", "--out", out]) == 0
    numpy.save(tmp_path / "far.npy", 5 + numpy.random.default_rng(0).normal(size=(40, 2)).astype("float32"))
    for other, least in (("permuted", 0.6), (str(tmp_path / "far.npy"), 0.999)):
        assert main(["evaluate", out, "--anomaly", other]) == 0
        kept = json.loads((tmp_path / "gmm" / "anomalies.json").read_text(encoding="utf-8"))[other]
        assert kept["scores"]["log p"]["auroc"] > least
        printed = capsys.readouterr().out
        assert f"log p             {kept['scores']['log p']['auroc']:>8.3f}" in printed
        assert "not measured: reconstruction: no code loses a part of x" in printed
    assert set(json.loads((tmp_path / "gmm" / "anomalies.json").read_text(encoding="utf-8"))) == {"permuted", other}
    assert not (tmp_path / "gmm" / "evaluation.json").exists()
    assert main(["evaluate", out, "--anomaly", "digits"]) == 2
