r"""Hamiltonian Monte Carlo: a leapfrog path with new momenta, accepted or rejected by Metropolis' rule.

.. math:: p \leftarrow p + \tfrac{\epsilon}{2} \nabla \log f(q), \quad q \leftarrow q + \epsilon p, \quad
    p \leftarrow p + \tfrac{\epsilon}{2} \nabla \log f(q), \qquad
    \log a = \min(0, \log f(q) - \tfrac12 |p|^2 - \log f(x) + \tfrac12 |p_0|^2)

Source: MCMC using Hamiltonian dynamics (Neal, 2011), arXiv:1206.1901, section 3.2, equations 2.28-2.30 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from dgm.samplers.metropolis import accepted, chosen, value_and_gradient

Density: TypeAlias = Callable[[Tensor, float], Tensor]  # log f_beta(x), up to a constant, (B,)

TARGET, GAIN = 0.65, 0.1  # the share of accepted proposals that step sizes are tuned to, and how fast


class HMC:
    """A transition that leaves f_beta invariant, of all chains together.

    Args:
        log_density: log f_beta(x), up to a constant, (B,).
        step_sizes: The step size at each beta, the same for all chains; see `tuned`.
        leapfrogs: Leapfrog steps of one transition.

    Attributes:
        accepted: The share of accepted proposals of the last transition.
    """

    def __init__(self, log_density: Density, step_sizes: Mapping[float, float], *, leapfrogs: int = 10) -> None:
        self.log_density, self.step_sizes, self.leapfrogs = log_density, step_sizes, leapfrogs
        self.accepted = math.nan

    def __call__(self, x: Tensor, beta: float) -> Tensor:
        eps, momentum = self.step_sizes[beta], torch.randn_like(x)
        before, gradient = self.at(x, beta)
        q, p = x, momentum
        for _ in range(self.leapfrogs):
            p = p + 0.5 * eps * gradient
            q = q + eps * p
            after, gradient = self.at(q, beta)
            p = p + 0.5 * eps * gradient
        accept = accepted((after - kinetic(p)) - (before - kinetic(momentum)), torch.rand_like(before))
        self.accepted = float(accept.double().mean())
        return chosen(accept, q, x)

    def at(self, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """log f_beta(x) and its gradient."""
        return value_and_gradient(lambda x: self.log_density(x, beta), x)


def kinetic(momentum: Tensor) -> Tensor:
    return 0.5 * momentum.square().flatten(1).sum(1)


def tuned(
    log_density: Density, x: Tensor, betas: Sequence[float], *, leapfrogs: int = 10, step_size: float = 0.1
) -> HMC:
    """HMC whose step size at each beta was found by chains from ``x``, so that about 65 % of proposals are accepted.

    The chains that are weighted must be others: a step size that depends on a chain's own past is no transition that
    leaves a density invariant.
    """
    found: dict[float, float] = {}
    hmc = HMC(log_density, found, leapfrogs=leapfrogs)
    for beta in betas:
        found[beta] = step_size
        x = hmc(x, beta)
        step_size *= math.exp(GAIN * (hmc.accepted - TARGET))
    return HMC(log_density, found, leapfrogs=leapfrogs)
