r"""The Metropolis-adjusted Langevin algorithm: a Langevin step as the proposal of Metropolis' rule.

.. math:: x' = x + \tfrac{\eta}{2} \nabla \log f(x) + \sqrt{\eta} \, \epsilon, \qquad
    \log a = \min \Big( 0, \log \frac{f(x') q(x | x')}{f(x) q(x' | x)} \Big), \qquad
    q(x' | x) = N(x'; x + \tfrac{\eta}{2} \nabla \log f(x), \eta I)

Its stationary distribution is f / Z at any step size, where that of `dgm.samplers.langevin` is so as eta tends to 0. It
is Hamiltonian Monte Carlo with one leapfrog step of length sqrt(eta).

Source: Exponential convergence of Langevin distributions and their discrete approximations (Roberts & Tweedie, 1996),
section 1.4.1; the best share of accepted proposals in many dimensions is 0.574 (Roberts & Rosenthal, 1998, theorem 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from dgm.samplers.metropolis import accepted, chosen, value_and_gradient


class Adjusted(NamedTuple):
    """The chains after one step: their states, and whether each proposal was accepted, (B,)."""

    x: Tensor
    accepted: Tensor


def mala(
    log_density: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    mala_steps: int,
    step_size: float,
    noise: Callable[[], Tensor],
    uniform: Callable[[], Tensor],
) -> Iterator[Adjusted]:
    """Yields the chains after each step.

    Args:
        log_density: log f(x), up to a constant, (B,).
        x: (B, ...).
        step_size: eta, the variance of the noise of a proposal.
        noise: Draws a standard normal of x's shape.
        uniform: Draws (B,) uniform numbers of [0, 1).
    """
    log_p, gradient = value_and_gradient(log_density, x)
    for _ in range(mala_steps):
        proposal = x + 0.5 * step_size * gradient + math.sqrt(step_size) * noise()
        log_p_there, gradient_there = value_and_gradient(log_density, proposal)
        back = log_proposal(x, proposal, gradient_there, step_size)
        forth = log_proposal(proposal, x, gradient, step_size)
        accept = accepted(log_p_there + back - log_p - forth, uniform())
        x, gradient = chosen(accept, proposal, x), chosen(accept, gradient_there, gradient)
        log_p = log_p_there.where(accept, log_p)
        yield Adjusted(x, accept)


def log_proposal(to: Tensor, x: Tensor, gradient: Tensor, step_size: float) -> Tensor:
    """log q(to | x), up to a constant, (B,)."""
    return -(to - x - 0.5 * step_size * gradient).square().flatten(1).sum(1) / (2 * step_size)
