r"""HYPE's staircase: the exposure time at which a rater tells real images from generated ones three times out of four.

After a correct answer the exposure becomes shorter, after a wrong one longer,

.. math:: t_{k+1} = t_k - 10 \text{ ms} \quad\text{or}\quad t_k + 30 \text{ ms}, \qquad 100 \le t \le 1000,

from 500 ms on. The expected change is zero where p(correct) = 30 / (30 + 10) = 3/4. The score of a block of images is
its modal exposure: the longer, the better the model.

Source: HYPE: A Benchmark for Human eYe Perceptual Evaluation of Generative Models (Zhou et al., 2019),
arXiv:1904.01121, section 2.1; Simple adaptive testing with the weighted up-down method (Kaernbach, 1991), for the ratio
of the steps.
Differs from it: the paper writes 10 ms up and 30 ms down, for which the change is zero at 25 % correct answers, below
chance; here the steps are those of the 75 % that it states. Of several modes the mean is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

FIRST, SHORTEST, LONGEST = 500, 100, 1000  # milliseconds
LONGER, SHORTER = 30, 10  # milliseconds, after a wrong and after a correct answer


def following(exposure: int, correct: bool) -> int:
    """The exposure in ms after an answer.

    Example:
        >>> following(500, correct=True), following(990, correct=False)
        (490, 1000)
    """
    return max(SHORTEST, exposure - SHORTER) if correct else min(LONGEST, exposure + LONGER)


def score(exposures: Sequence[int]) -> float:
    """The modal exposure in ms of a block.

    Example:
        >>> score([500, 490, 490, 480]), score([500, 490])
        (490.0, 495.0)
    """
    counts = Counter(exposures)
    modes = [exposure for exposure, count in counts.items() if count == max(counts.values())]
    return sum(modes) / len(modes)
