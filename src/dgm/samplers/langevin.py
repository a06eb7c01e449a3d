r"""Langevin dynamics: gradient ascent on log p with added noise, whose stationary distribution is p."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor


def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    langevin_steps: int,
    step_size: float,
    noise: Callable[[], Tensor],
    temperature: float = 1.0,
) -> Iterator[Tensor]:
    r"""Yields the state after each Langevin step.

    .. math:: x_{k+1} = x_k + \tfrac{\eta}{2} \nabla \log p(x_k) + \sqrt{\eta \tau} \, \epsilon_k

    At temperature tau = 1 the stationary distribution tends to p as eta tends to 0. On N(0, s²) its stationary variance
    is s² / (1 - eta / (4 s²)).

    Source: Bayesian Learning via Stochastic Gradient Langevin Dynamics (Welling & Teh, 2011), equation 3.

    Args:
        score: The gradient of log p, of x's shape.
        noise: Draws a standard normal of x's shape.
    """
    for _ in range(langevin_steps):
        x = x + 0.5 * step_size * score(x) + math.sqrt(step_size * temperature) * noise()
        yield x
