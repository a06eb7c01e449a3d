"""Modes that samples cover and miss, and copies among the samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.data.modes import Modes
from dgm.evaluation.features import Features, features
from dgm.evaluation.neighbours import nearest

MODE_SHARE = 0.1  # a label counts as covered from this fraction of its share in the training data
NEAR = 0.1  # times the median distance between nearest held-out examples: a sample that is nearer to another is a copy


def modes(dataset: Dataset, samples: Tensor) -> dict[str, Any] | None:
    """The modes that samples cover: known ones, stacked labels, or the labels that the classifier predicts.

    None for data without modes or labels.
    """
    known = dataset.modes or (stacked(dataset) if dataset.channels else None)
    return known.describe(samples) if known else of_labels(dataset, samples)


def stacked(dataset: Dataset) -> Modes:
    """The labels of all channels, as one number, by a classifier of the data set that the channels are from.

    Source: Unrolled Generative Adversarial Networks (Metz et al., 2016), arXiv:1611.02163, section 3.3.1: a mode
    counts as covered if one sample has it. The rule states the classifier's accuracy on the test split.
    """
    assert dataset.channels is not None
    assert dataset.test.y is not None
    space = features("classifier", dataset.channels)
    count = len(dataset.channels.labels) ** dataset.space.shape[0]
    labels = "digits" if dataset.channels.name.endswith(("digits", "mnist")) else "labels"

    def of(x: Tensor) -> Tensor:
        return number(channels(space, x), len(dataset.channels.labels))  # type: ignore[union-attr]

    accuracy = float(channels(space, dataset.test.x).eq(dataset.test.y).all(1).double().mean())
    rule = (
        f"combinations of {labels} in the channels that a sample has, by a classifier that is right about all channels "
        f"of {accuracy:.1%} of the {len(dataset.test):,} test examples"
    )
    return Modes(count, of, rule)


def channels(space: Features, x: Tensor) -> Tensor:
    """The label of each channel, (N, C)."""
    assert space.guess is not None
    return space.guess(x.flatten(0, 1)[:, None]).view(x.shape[:2])


def number(labels: Tensor, base: int) -> Tensor:
    """The number whose digits are the labels (N, C), the first one the largest.

    >>> number(torch.tensor([[1, 2, 3], [0, 0, 4]]), 10)
    tensor([123,   4])
    """
    powers = base ** torch.arange(labels.shape[1] - 1, -1, -1)
    return (labels * powers).sum(1)


def of_labels(dataset: Dataset, samples: Tensor) -> dict[str, Any] | None:
    """The shares of the labels that the classifier predicts for samples, and their shares in the training data."""
    space = features("classifier", dataset)
    if space.log_p is None or dataset.train.y is None:
        return None
    classes = len(dataset.labels)
    share = space.log_p(samples).argmax(1).bincount(minlength=classes).double() / len(samples)
    expected = dataset.train.y.bincount(minlength=classes).double() / len(dataset.train)
    found = share > MODE_SHARE * expected
    return {
        "found": int(found.sum()),
        "of": classes,
        "missed": (~found).nonzero()[:, 0].tolist(),
        "kl": float((torch.special.xlogy(share, share) - torch.special.xlogy(share, expected)).sum()),
        "total_variation": float((share - expected).abs().sum() / 2),
        "outside": 0.0,
        "n": len(samples),
        "shares": share.tolist(),
        "rule": f"labels with more than {MODE_SHARE:.0%} of their training share",
    }


def duplicates(dataset: Dataset, samples: Tensor, held_out: Tensor) -> dict[str, Any] | None:
    """The share of samples that are copies of other samples, and the same share of as many held-out examples.

    None where there are fewer than 2 of either. With few distinct values in the generator's range there are copies by
    the birthday paradox: about one pair of s samples from s² / 2 distinct ones.
    """
    space = features("pixels", dataset)
    n = min(len(samples), len(held_out))
    if n < 2:
        return None
    generated, real = (nearest_other(space.of(x[:n])) for x in (samples, held_out))
    bound = NEAR * real.median()
    return {
        "share": float((generated <= bound).double().mean()),
        "held_out_share": float((real <= bound).double().mean()),
        "rule": f"nearer to another sample than {NEAR:g} of the median distance between nearest held-out examples",
        "n": n,
    }


def nearest_other(x: Tensor) -> Tensor:
    """The Euclidean distance of each row to the nearest other one."""
    return nearest(x.double(), x.double(), 2)[0][:, 1].sqrt()
