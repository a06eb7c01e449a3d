"""A classifier of samples: of real ones, of ones with other labels, and of data without labels."""

from __future__ import annotations

import pytest
import torch

from dgm import data
from dgm.data import Dataset
from dgm.errors import Unsupported
from dgm.evaluation import downstream, features
from dgm.evaluation.downstream import downstream_accuracy


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
