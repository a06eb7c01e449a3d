r"""The Bradley-Terry model of paired comparisons, fitted by maximum likelihood.

.. math:: P(i \text{ beats } j) = \frac{\lambda_i}{\lambda_i + \lambda_j}

Source: MM algorithms for generalized Bradley-Terry models (Hunter, 2004), equations 1 to 3, and assumption 1 for the
existence of the maximum.
"""

from __future__ import annotations

import numpy
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

TOLERANCE = 1e-9  # of a step of the log-strengths
MOST = 100_000  # iterations
CORRECTION = 0.5  # wins that each side of a pair is given where no maximum exists


def log_strengths(wins: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    r"""log λ of S competitors, (..., S) with mean 0, by the MM algorithm.

    .. math:: \lambda_i \leftarrow W_i \Big/ \sum_{j \ne i} \frac{N_{ij}}{\lambda_i + \lambda_j}

    W_i are the wins of i, N_ij the comparisons of i and j. The maximum exists if no competitor or group of them won all
    of its comparisons with the others; see `has_maximum`.

    Args:
        wins: (..., S, S), how often i beat j, of a connected set of comparisons with a maximum.

    Example:
        >>> numpy.exp(log_strengths(numpy.array([[0.0, 3.0], [1.0, 0.0]]))) ** 2
        array([3.        , 0.33333333])
    """
    compared, won = wins + wins.swapaxes(-1, -2), wins.sum(-1)
    strength = numpy.ones_like(won)
    for _ in range(MOST):
        new = won / (compared / (strength[..., :, None] + strength[..., None, :])).sum(-1)
        new /= numpy.exp(numpy.log(new).mean(-1, keepdims=True))
        step, strength = numpy.abs(numpy.log(new / strength)).max(initial=0), new
        if step < TOLERANCE:
            break
    return numpy.log(strength)


def has_maximum(wins: NDArray[numpy.float64]) -> bool:
    """Whether the likelihood of (S, S) wins has a maximum: their graph is strongly connected (assumption 1)."""
    return bool(connected_components(wins > 0, connection="strong")[0] == 1)


def corrected(wins: NDArray[numpy.float64], compared: NDArray[numpy.bool_]) -> NDArray[numpy.float64]:
    """The (S, S) wins if their likelihood has a maximum, else with half a win more for both sides of ``compared``."""
    return wins if has_maximum(wins) else wins + CORRECTION * compared


def groups(wins: NDArray[numpy.float64]) -> list[list[int]]:
    """The competitors in groups that were compared with each other, directly or through others.

    Example:
        >>> groups(numpy.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]))
        [[0, 1], [2]]
    """
    number, labels = connected_components(wins + wins.T > 0, directed=False)
    return [numpy.flatnonzero(labels == k).tolist() for k in range(number)]
