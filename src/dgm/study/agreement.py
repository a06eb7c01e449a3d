r"""Krippendorff's alpha for nominal answers: the agreement of raters beyond chance, where not all rated all.

.. math:: \alpha = 1 - \frac{D_o}{D_e}, \qquad
    D_o = \frac{1}{n} \sum_u \frac{n_u^2 - \sum_c n_{uc}^2}{n_u - 1}, \qquad
    D_e = \frac{n^2 - \sum_c n_c^2}{n (n - 1)}

n_uc answers to unit u are c, n_u are its answers, n_c are those of all units with two answers or more. 1 is perfect
agreement, 0 that of chance.

Source: Computing Krippendorff's alpha-reliability (Krippendorff, 2011), part C.
"""

from __future__ import annotations

import numpy
from numpy.typing import NDArray


def alpha(counts: NDArray[numpy.float64]) -> float:
    """Alpha of (units, values) counts of answers; NaN without two different answers to compare.

    Example:
        >>> alpha(numpy.array([[2.0, 0.0], [0.0, 2.0]]))
        1.0
    """
    counts = counts[counts.sum(1) >= 2]
    each, total = counts.sum(1), counts.sum()
    expected = total**2 - (counts.sum(0) ** 2).sum()
    if expected == 0:
        return float("nan")
    observed = ((each**2 - (counts**2).sum(1)) / (each - 1)).sum()
    return float(1 - (total - 1) * observed / expected)
