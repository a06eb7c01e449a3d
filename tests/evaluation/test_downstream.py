"""A classifier of samples: of real ones, of ones with other labels, and of data without labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from dgm import create, data
from dgm.data import Dataset
from dgm.errors import Unsupported
from dgm.evaluation import downstream, features
from dgm.evaluation.downstream import downstream_accuracy
from dgm.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def test_the_labels_of_the_samples_are_learnt(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real examples in the samples' place are as good as real ones; with labels moved by one, none is right."""
    monkeypatch.setitem(features.CLASSIFIER, "epochs", 8)
    assert digits.validation.y is not None
    x, y = digits.validation.x, digits.validation.y
    found = downstream_accuracy(digits, x, y, digits.test)
    assert found["low"] < found["accuracy"] < found["high"]
    assert found["accuracy"] > 0.8
    assert found["real"]["accuracy"] == pytest.approx(found["accuracy"], abs=0.1)
    assert (found["n_train"], found["n"]) == (len(x), len(digits.test))
    monkeypatch.setattr(downstream, "drawn_rows", lambda *_: torch.arange(40))
    moved = downstream_accuracy(digits, x, (y + 1) % 10, digits.test)
    assert moved["accuracy"] < 0.05


def test_data_without_labels_is_refused(digits: Dataset) -> None:
    with pytest.raises(Unsupported, match="needs images with labels"):
        downstream_accuracy(digits, digits.test.x, None, digits.test)
    moons = data.load("toy/moons")
    with pytest.raises(Unsupported, match="needs images with labels"):
        downstream_accuracy(moons, moons.test.x, torch.zeros(2000), moons.test)


def test_a_model_without_labels_is_refused_before_samples_are_drawn(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of one label would give an accuracy of 1."""

    def drawn(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("dgm.evaluation.samples.sample", drawn)
    with pytest.raises(Unsupported, match="of a model that is conditional on them"):
        evaluate(create("made", digits.space, hidden=8), digits, downstream=True)
    conditional = create("made", digits.space, condition=digits.condition, hidden=8)
    with pytest.raises(Unsupported, match="needs samples of all labels"):
        evaluate(conditional, digits, downstream=True, condition=torch.tensor(3))


def test_one_classifier_learns_from_samples_and_one_from_as_many_real_examples(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = []

    def trained(network: Any, dataset: Dataset, rows: torch.Tensor, progress: Any) -> None:
        learnt.append(dataset.train.batch(rows)[0])
        for share in (0.0, 0.5, 1.0):
            progress(share)

    monkeypatch.setattr(downstream, "train_classifier", trained)
    shares: list[float] = []
    tested, judged = [], downstream.accuracy_of
    monkeypatch.setattr(downstream, "accuracy_of", lambda d, a, b, p: tested.append(b) or judged(d, a, b, p))
    found = downstream_accuracy(digits, digits.test.x[:9], digits.test.y[:9], digits.test, shares.append)
    assert all(test is digits.test for test in tested)
    assert shares == [0, 0.25, 0.5, 0.5, 0.75, 1]
    assert torch.equal(learnt[0], digits.test.x[:9])
    of_training = (learnt[1].flatten(1)[:, None] == digits.train.x.flatten(1)).all(2).any(1)
    assert of_training.tolist() == [True] * 9  # the reference learns from as many training examples
    right = round(found["accuracy"] * len(digits.test))
    assert found["accuracy"] == right / len(digits.test)
    assert (found["low"], found["high"]) == pytest.approx(binomtest(right, len(digits.test)).proportion_ci(0.95))
