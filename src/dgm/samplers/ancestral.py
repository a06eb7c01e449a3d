"""Ancestral sampling: from noise to data by the posterior of a Gaussian path, with x_0 predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor

from dgm.processes.gaussian import GaussianPath

Variance: TypeAlias = Literal["posterior", "forward"]


def ancestral(
    predict_x_0: Callable[[Tensor, Tensor], Tensor],
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
    *,
    variance: Variance = "posterior",
) -> Iterator[Tensor]:
    r"""Draws x_s about the mean of :math:`q(x_s | x_t, \hat x_0(x_t, t))`; no noise in the last step.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, algorithm 2.

    Args:
        predict_x_0: Of a state (n, ...) and its time, a scalar.
        x: State at times[0].
        times: (steps + 1,), falling.
        noise: Gives a standard normal of x's shape.
        variance: The paper's two (section 3.2): the ``posterior``'s is best where x_0 is certain, that of the
            ``forward`` transition from s to t where x_0 ~ N(0, I).

    Yields:
        The state at times[1], times[2], ...
    """
    last = len(times) - 2
    for step, (t, s) in enumerate(pairwise(times)):
        mean, std = path.posterior(predict_x_0(x, t), x, s, t)
        if variance == "forward":
            std = path.transition(s, t)[1].sqrt()
        x = mean if step == last else mean + std * noise()
        yield x
