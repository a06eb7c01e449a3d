r"""Annealed importance sampling: the ratio of two normalising constants, by a path of densities between them.

.. math:: \log w = \sum_{k=1}^K \log \frac{f_{\beta_k}(x_{k-1})}{f_{\beta_{k-1}}(x_{k-1})}, \qquad
    f_\beta = f_0^{1 - \beta} f_1^\beta

or along another path from f_0 to f_1. x_0 is drawn from f_0 / Z_0, and x_k from x_{k-1} by a transition that leaves
f_{beta_k} invariant. Then E[w] = Z_1 / Z_0, so that E[log w] is a lower bound on log Z_1 - log Z_0. From an exact
sample of f_1 / Z_1 and with falling temperatures the same sum is a bound on log Z_0 - log Z_1, and its negative an
upper bound: bidirectional Monte Carlo.

Source: Annealed importance sampling (Neal, 2001), arXiv:physics/9803008, equations 3 and 10; Sandwiching the marginal
likelihood using bidirectional Monte Carlo (Grosse et al., 2015), arXiv:1511.02543, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

# of x, beta and the next beta': log f_beta'(x) - log f_beta(x), (B,), and the next x, by a transition of f_beta'
AnnealingStep: TypeAlias = Callable[[Tensor, float, float], tuple[Tensor, Tensor]]

SHARPNESS = 4.0  # of the sigmoid schedule


class Annealed(NamedTuple):
    """The chains after one temperature: their states, and the logarithm of their weights so far, (B,)."""

    x: Tensor
    log_weight: Tensor


def annealed_importance(x: Tensor, step: AnnealingStep, betas: Sequence[float]) -> Iterator[Annealed]:
    """Yields the chains after each temperature.

    Args:
        x: (B, ...), exact samples of the density at the first of ``betas``.
        step: The logarithm of the ratio of two densities at x, and a transition; see `geometric`.
        betas: From 0 to 1 for log Z_1 - log Z_0, or from 1 to 0 for log Z_0 - log Z_1.
    """
    log_weight = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for before, after in pairwise(betas):
        log_ratio, x = step(x, before, after)
        log_weight = log_weight + log_ratio.double()
        yield Annealed(x, log_weight)


def geometric(log_ratio: Callable[[Tensor], Tensor], transition: Callable[[Tensor, float], Tensor]) -> AnnealingStep:
    """The step of the geometric path above.

    Args:
        log_ratio: log f_1(x) - log f_0(x), (B,).
        transition: A function of x and beta that leaves f_beta invariant, such as `dgm.samplers.hmc.HMC`.
    """

    def step(x: Tensor, before: float, after: float) -> tuple[Tensor, Tensor]:
        return (after - before) * log_ratio(x).double(), transition(x, after)

    return step


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


def late_schedule(steps: int) -> list[float]:
    """``steps`` + 1 temperatures from 0 to 1, linear up to 0.5, up to 0.9 and up to 1, with 20/29 of them in the last.

    Source: On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008), section 4.1, whose
    14,500 temperatures these are.

    Example:
        >>> betas = late_schedule(14_500)
        >>> [round(betas[k], 6) for k in (0, 1, 500, 4500, 4501, 14500)]
        [0.0, 0.001, 0.5, 0.9, 0.90001, 1.0]
    """
    k = np.arange(steps + 1) / steps
    betas: list[float] = np.interp(k, [0, 500 / 14_500, 4_500 / 14_500, 1], [0, 0.5, 0.9, 1]).tolist()
    return betas


def log_mean(log_weight: Tensor) -> Tensor:
    """The logarithm of the mean weight over the last dimension."""
    return log_weight.logsumexp(-1) - math.log(log_weight.shape[-1])
