r"""Annealed importance sampling: the ratio of two normalising constants, by a path of densities between them.

.. math:: \log w = \sum_{k=1}^K (\beta_k - \beta_{k-1}) \log \frac{f_1(x_{k-1})}{f_0(x_{k-1})}, \qquad
    f_\beta = f_0^{1 - \beta} f_1^\beta

x_0 is drawn from f_0 / Z_0, and x_k from x_{k-1} by a transition that leaves f_{beta_k} invariant. Then E[w] = Z_1 /
Z_0, so that E[log w] is a lower bound on log Z_1 - log Z_0. From an exact sample of f_1 / Z_1 and with falling
temperatures the same sum is a bound on log Z_0 - log Z_1, and its negative an upper bound: bidirectional Monte Carlo.

Source: Annealed importance sampling (Neal, 2001), arXiv:physics/9803008, equations 3 and 10; Sandwiching the marginal
likelihood using bidirectional Monte Carlo (Grosse et al., 2015), arXiv:1511.02543, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Density: TypeAlias = Callable[[Tensor, float], Tensor]  # log f_beta(x), up to a constant, (B,)
Transition: TypeAlias = Callable[[Tensor, float], Tensor]  # from x ~ f_beta to another x ~ f_beta

TARGET, GAIN = 0.65, 0.1  # the share of accepted proposals that step sizes are tuned to, and how fast
SHARPNESS = 4.0  # of the sigmoid schedule


class Annealed(NamedTuple):
    """The chains after one temperature: their states, and the logarithm of their weights so far, (B,)."""

    x: Tensor
    log_weight: Tensor


def annealed_importance(
    x: Tensor, log_ratio: Callable[[Tensor], Tensor], transition: Transition, betas: Sequence[float]
) -> Iterator[Annealed]:
    """Yields the chains after each temperature.

    Args:
        x: (B, ...), exact samples of the density at the first of ``betas``.
        log_ratio: log f_1(x) - log f_0(x), (B,).
        transition: A function of x and beta that leaves f_beta invariant, such as `HMC` or a sweep of Gibbs sampling.
        betas: From 0 to 1 for log Z_1 - log Z_0, or from 1 to 0 for log Z_0 - log Z_1.
    """
    log_weight = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for before, after in pairwise(betas):
        log_weight = log_weight + (after - before) * log_ratio(x).double()
        x = transition(x, after)
        yield Annealed(x, log_weight)


def sigmoid_schedule(steps: int) -> list[float]:
    """``steps`` + 1 temperatures from 0 to 1, dense at both ends.

    Source: On the quantitative analysis of decoder-based generative models (Wu et al., 2017), arXiv:1611.04273,
    section 3.

    Example:
        >>> [round(beta, 3) for beta in sigmoid_schedule(4)]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    ends = torch.linspace(-SHARPNESS, SHARPNESS, steps + 1, dtype=torch.float64).sigmoid()
    return ((ends - ends[0]) / (ends[-1] - ends[0])).tolist()


class HMC:
    r"""Hamiltonian Monte Carlo: a leapfrog path with new momenta, accepted or rejected by Metropolis' rule.

    Source: MCMC using Hamiltonian dynamics (Neal, 2011), arXiv:1206.1901, section 3.2, equations 2.28-2.30 and 3.6.

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
        before, gradient = self.with_gradient(x, beta)
        energy, q, p = before - kinetic(momentum), x, momentum
        for _ in range(self.leapfrogs):
            p = p + 0.5 * eps * gradient
            q = q + eps * p
            after, gradient = self.with_gradient(q, beta)
            p = p + 0.5 * eps * gradient
        log_accept = (after - kinetic(p) - energy).nan_to_num(nan=-math.inf)
        accept = torch.rand_like(log_accept).log() < log_accept
        self.accepted = float(accept.double().mean())
        return torch.where(accept.view(-1, *[1] * (x.ndim - 1)), q, x)

    def with_gradient(self, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_p = self.log_density(x, beta)
            (gradient,) = torch.autograd.grad(log_p.sum(), x)
        return log_p.detach(), gradient


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
