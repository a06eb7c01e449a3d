"""The whole document, of a model whose truth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm import data
from dgm.data import Dataset, Split
from dgm.evaluation.evaluate import evaluate, with_intervals
from dgm.evaluation.features import features
from dgm.seeds import Seed, streams
from dgm.space import Space


class Repeats(nn.Module):
    """Samples that are training examples of the labels given: a model that has learnt by heart and dropped the rest."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, dataset: Dataset, labels: list[int]) -> None:
        super().__init__()
        self.space, self.config = dataset.space, self.Config()
        assert dataset.train.y is not None
        self.kept = dataset.train.x[torch.isin(dataset.train.y, torch.tensor(labels))]

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        return self.kept[(streams(n, seed).uniform(()) * len(self.kept)).long()]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def test_memorisation_and_dropped_modes_are_shown(digits: Dataset) -> None:
    document = json.loads(json.dumps(evaluate(Repeats(digits, [0, 1, 2]), digits, samples=200)))
    assert document["likelihood"] == []
    assert document["memorisation"]["exact"] == 1
    assert document["memorisation"]["held_out_share"] < 0.05
    assert document["modes"]["found"] == 3
    assert document["modes"]["total_variation"] == pytest.approx(0.7, abs=0.05)
    values = {m["name"]: m for m in document["metrics"] if m["features"] == "classifier"}
    assert values["coverage"]["value"] < 0.5 < values["coverage"]["reference"]
    assert values["frechet"]["value"] > 5 * values["frechet"]["reference"]
    assert values["diversity"]["value"] == pytest.approx(3, abs=0.3)
    assert document["features"]["classifier"]["test_accuracy"] > 0.95


def test_the_classifier_is_the_same_from_the_cache(digits: Dataset) -> None:
    first, again = features("classifier", digits), features("classifier", digits)
    assert first.about == again.about
    assert torch.equal(first.of(digits.test.x[:10]), again.of(digits.test.x[:10]))


def test_pca_keeps_the_variance_that_it_says(digits: Dataset) -> None:
    space = features("pca", digits)
    z, x = space.of(digits.train.x), features("pixels", digits).of(digits.train.x)
    assert float(z.var(0).sum() / x.var(0).sum()) == pytest.approx(space.about["variance_kept"], abs=1e-3)
    off = z.T.cov() - torch.diag(z.var(0))
    assert off.abs().max() < 1e-9


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = torch.randn(2000, dtype=torch.float64)
    (row,) = with_intervals(["mean"], lambda keep: [float(x[keep].mean())], 2000, [0.0])
    half = 1.96 * float(x.std()) / 2000**0.5
    assert row["value"] == pytest.approx(float(x.mean()))
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.6)  # ten groups: a chi of 9 degrees of freedom


def test_a_table_is_standardised_before_it_is_compared() -> None:
    x = torch.randn(100, 2) * torch.tensor([1e4, 1e-3])
    split = Split(x)
    space = Space.continuous((2,), loc=(0.0, 0.0), scale=(1e4, 1e-3))
    table = Dataset(name="t", space=space, train=split, validation=split, test=split, split="all")
    assert torch.allclose(features("pixels", table).of(x).std(0), torch.ones(2).double(), atol=0.25)


def test_progress_only_rises(digits: Dataset) -> None:
    """Also over a bound that is measured twice, the second time with importance weights."""
    model, shares = dgm.create("vae", digits.space).eval(), list[float]()
    evaluate(model, digits, samples=100, spaces=["pixels"], progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
