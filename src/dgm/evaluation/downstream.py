"""Downstream accuracy: a classifier is trained on labelled samples and tested on real examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from dgm.data import Dataset, Split
from dgm.errors import Unsupported
from dgm.evaluation.features import Classifier, guess_of, in_blocks, outputs_of, train_classifier
from dgm.evaluation.held_out import drawn_rows
from dgm.space import Space


def downstream_accuracy(
    dataset: Dataset, x: Tensor, y: Tensor | None, real: Split, progress: Callable[[float], None] = lambda share: None
) -> dict[str, Any]:
    """The accuracy on real examples of a classifier of samples, beside that of as many real training examples.

    A model that misses a part of a class, or that ignores its label, costs accuracy; one of blurred samples may not.
    The network and its training are those of the classifier's features.

    Source: Classification Accuracy Score for Conditional Generative Models (Ravuri & Vinyals, 2019), arXiv:1905.10887,
    section 3. Differs from it: a small network, and the real training set has no more examples than there are samples.

    Args:
        x: (N, *shape) samples.
        y: (N,) their labels.
        real: The examples of the test.

    Raises:
        Unsupported: For samples without labels, or data that is no labelled images.
    """
    train = dataset.train
    refuse_without_labels(dataset, None if y is None else dataset.condition)
    assert y is not None
    n = min(len(x), len(train))
    rows = drawn_rows(train.y, len(train), n, 0)
    as_many = Split(*train.batch(rows, torch.Generator().manual_seed(0)))
    found = accuracy_of(dataset, Split(x[:n], y[:n]), real, lambda share: progress(share / 2))
    beside = accuracy_of(dataset, as_many, real, lambda share: progress((1 + share) / 2))
    rule = f"right labels of real examples by a classifier that is trained on {n:,} samples, or as many real examples"
    return {**found, "real": beside, "n_train": n, "n": len(real), "rule": rule}


def refuse_without_labels(dataset: Dataset, labels: Space | None, label: Tensor | None = None) -> None:
    """Raises the errors of `downstream_accuracy` before samples are drawn.

    Args:
        labels: The condition of the model.
        label: That of all samples, if they are drawn given one.
    """
    if labels is None or not dataset.labels or len(dataset.space.shape) != 3:
        wrong = "a classifier of samples needs images with labels, of a model that is conditional on them"
        raise Unsupported(wrong, "leave downstream out, or train with --conditional")
    if label is not None:
        raise Unsupported("a classifier of samples needs samples of all labels", "leave downstream or the label out")


def accuracy_of(dataset: Dataset, train: Split, test: Split, progress: Callable[[float], None]) -> dict[str, float]:
    """The accuracy with its exact binomial interval of 95 %."""
    network = Classifier(dataset.space, outputs_of(dataset))
    train_classifier(network, replace(dataset, train=train), torch.arange(len(train)), progress)
    network.eval()
    assert test.y is not None  # checked by `downstream_accuracy`
    right = int((in_blocks(guess_of(network, dataset))(test.x) == test.y).sum())
    interval = binomtest(right, len(test)).proportion_ci(0.95, "exact")
    return {"accuracy": right / len(test), "low": float(interval.low), "high": float(interval.high)}
