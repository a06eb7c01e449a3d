"""Ancestral sampling: from noise to data by the posterior of a Gaussian path, with x_0 predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor

from dgm.processes.gaussian import GaussianPath


def ancestral(
    predict_x_0: Callable[[Tensor, Tensor], Tensor],
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
) -> Iterator[Tensor]:
    r"""Draws :math:`x_s \sim q(x_s | x_t, \hat x_0(x_t, t))` from one time to the next; no noise in the last step.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, algorithm 2, with the smaller
    of its two variances (section 3.2).

    Args:
        predict_x_0: Of a state (n, ...) and its time, a scalar.
        x: State at times[0].
        times: (steps + 1,), falling.
        noise: Gives a standard normal of x's shape.

    Yields:
        The state at times[1], times[2], ...
    """
    last = len(times) - 2
    for step, (t, s) in enumerate(pairwise(times)):
        mean, std = path.posterior(predict_x_0(x, t), x, s, t)
        x = mean if step == last else mean + std * noise()
        yield x
