r"""A classifier between two sets: its accuracy, and the log-ratio of their densities."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from dgm.data import order
from dgm.errors import BadInput

FEWEST = 40  # of each set: half of them train
HIDDEN, RATE, EPOCHS = 64, 5e-3, 60


class TwoSample(NamedTuple):
    """The classifier's accuracy on held-out examples, with its exact binomial interval of 95 %.

    Attributes:
        accuracy: 1/2 in expectation where the distributions are equal.
        low: Clopper and Pearson's bounds.
        high:
        p: Probability of at least this accuracy if the distributions are equal.
        n: Number of held-out examples.
    """

    accuracy: float
    low: float
    high: float
    p: float
    n: int


def two_sample_test(at_x: Tensor, at_y: Tensor) -> TwoSample:
    """Classifier two-sample test: an example belongs to x where the log-ratio is above 0.

    A high accuracy shows a difference; one of 1/2 shows that this classifier finds none. 2 accuracy - 1 is a lower
    bound of the total variation.

    Source: Revisiting Classifier Two-Sample Tests (Lopez-Paz & Oquab, 2017), arXiv:1610.06545, section 3. Differs from
    it: the exact binomial distribution in place of the normal one.

    Args:
        at_x: (N,) estimates of log p_x / p_y at held-out examples of x.
        at_y: (M,), the same at those of y.

    Example:
        >>> found = two_sample_test(torch.tensor([1.0, 2.0, -1.0]), torch.tensor([-1.0, -2.0, -0.5]))
        >>> round(found.accuracy, 4), round(found.p, 4)
        (0.8333, 0.1094)
    """
    right, n = int((at_x > 0).sum() + (at_y <= 0).sum()), len(at_x) + len(at_y)
    interval = binomtest(right, n, 0.5).proportion_ci(0.95, "exact")
    p = binomtest(right, n, 0.5, alternative="greater").pvalue
    return TwoSample(right / n, float(interval.low), float(interval.high), float(p), n)


def held_out_log_ratios(x: Tensor, y: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """log p_x / p_y by a classifier that is trained on a random half of each set, at the other half.

    The classifier is the mean of three networks with two hidden layers of 64 units on standardised features. Each is
    trained on two thirds of its half and calibrated by a logistic regression on the last third: a network that is too
    sure of itself would make a lower bound of a divergence negative. No log-ratio is larger than the logarithm of the
    number of training examples.

    Args:
        x: (N, D), N at least 40.
        y: (N, D), as many.

    Returns:
        (N - N // 2,) at held-out examples of x and the same of y.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(x) != len(y) or len(x) < FEWEST:
        wrong = f"a classifier needs two sets of as many, at least {FEWEST} each, got {len(x)} and {len(y)}"
        raise BadInput(wrong, "draw more samples")
    n = len(x) // 2
    (train_x, test_x), (train_y, test_y) = (
        v.double()[order(len(v), seed, k)].split([n, len(v) - n]) for k, v in enumerate((x, y))
    )
    network = MLPClassifier((HIDDEN, HIDDEN), learning_rate_init=RATE, max_iter=EPOCHS, random_state=seed % 2**32)
    classifier = make_pipeline(StandardScaler(), CalibratedClassifierCV(network, cv=3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed
        classifier.fit(torch.cat([train_x, train_y]).numpy(), [1] * n + [0] * n)
    most = math.log(2 * n)
    return log_odds(classifier, test_x).clamp(-most, most), log_odds(classifier, test_y).clamp(-most, most)


def log_odds(classifier: Any, x: Tensor) -> Tensor:
    log_p = torch.from_numpy(classifier.predict_proba(x.numpy())).log()
    return log_p[:, 1] - log_p[:, 0]
