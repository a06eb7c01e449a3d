"""95 % intervals of a share, and of any statistic of a group of raters by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 5  # raters who are resampled


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share of n independent answers.

    Example:
        >>> wilson(0, 10)
        (0.0, 0.27753279...)
    """
    interval = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def resampled(n: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[numpy.int64]:
    """How often each of n raters is drawn, (resamples, n): n draws with replacement in each row."""
    generator = numpy.random.default_rng(seed)
    return generator.multinomial(n, numpy.full(n, 1 / n), size=resamples)


def bootstrapped(
    statistic: Callable[[NDArray[numpy.int64]], NDArray[numpy.float64]], n: int, *, seed: int = 0
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    r"""The ends of the expanded percentile interval of a statistic of n independent raters.

    The percentiles are those at which the interval of a mean is Student's with n - 1 degrees of freedom,

    .. math:: \alpha' = \Phi\big({-\sqrt{n / (n - 1)}}\; t_{\alpha / 2, n - 1}\big),

    since the plain percentiles give an interval that is too narrow for few raters.

    Args:
        statistic: A function of how often each rater is drawn, (B, n), whose rows are the B values, (B, ...). NaN is
            left out.

    Source: What teachers should know about the bootstrap (Hesterberg, 2015), section 3.3.
    """
    values = statistic(resampled(n, seed))
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + LEVEL) / 2, n - 1))
    low, high = numpy.nanquantile(values, [tail, 1 - tail], axis=0)
    return low, high
