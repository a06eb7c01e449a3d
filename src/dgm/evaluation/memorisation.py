"""Copies of training examples among samples, and among held-out examples, in pixels and in features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dgm.data import Dataset
from dgm.evaluation.features import features
from dgm.evaluation.neighbours import Memorisation, memorised

NEAREST_SHOWN = 10  # samples whose nearest training examples are named
TRAINING = 20_000  # training examples, at most, that samples are compared with


def memorisation(dataset: Dataset, samples: Tensor, held_out: Tensor, spaces: Sequence[str] = ()) -> dict[str, Any]:
    """The share of memorised samples and, as a reference, the same share of held-out examples.

    Args:
        spaces: Feature spaces besides pixels, for ``in_features``: a shifted or recoloured copy is near in features
            alone.
    """
    of_samples, of_held_out = in_space("pixels", dataset, samples, held_out)
    rule = "nearer to a training example than 1/3 of that example's distance to the next training example, in pixels"
    return {
        **shares(of_samples, of_held_out),
        "rule": rule,
        "nearest": of_samples.nearest[:NEAREST_SHOWN].tolist(),
        "distance": of_samples.distance[:NEAREST_SHOWN].tolist(),
        "median_distance": float(of_samples.distance.median()),
        "held_out_median_distance": float(of_held_out.distance.median()),
        "n_train": min(len(dataset.train), TRAINING),
        "in_features": {name: shares(*in_space(name, dataset, samples, held_out)) for name in spaces},
    }


def in_space(name: str, dataset: Dataset, samples: Tensor, held_out: Tensor) -> tuple[Memorisation, Memorisation]:
    space = features(name, dataset)
    training = space.of(dataset.train.x[:TRAINING])
    return memorised(training, space.of(samples)), memorised(training, space.of(held_out[: len(samples)]))


def shares(of_samples: Memorisation, of_held_out: Memorisation) -> dict[str, float]:
    return {
        "share": of_samples.share,
        "exact": of_samples.exact,
        "authenticity": of_samples.authenticity,
        "held_out_share": of_held_out.share,
        "held_out_exact": of_held_out.exact,
        "held_out_authenticity": of_held_out.authenticity,
    }
