"""Metropolis' rule: a proposal is accepted or the state stays, so that a density is left invariant."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def accepted(log_acceptance: Tensor, u: Tensor) -> Tensor:
    """Whether each proposal is accepted, (B,): with probability min(1, exp(log_acceptance)), and never for NaN.

    Source: Equation of state calculations by fast computing machines (Metropolis et al., 1953), section II; Monte
    Carlo sampling methods using Markov chains (Hastings, 1970), equation 6.

    Args:
        u: (B,) uniform numbers of [0, 1).

    Example:
        >>> accepted(torch.tensor([0.5, -1.0, -1.0]), torch.tensor([0.9, 0.3, 0.4]))
        tensor([ True,  True, False])
    """
    return u.log() < log_acceptance.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)


def chosen(accept: Tensor, proposal: Tensor, x: Tensor) -> Tensor:
    """The proposal (B, ...) where it is accepted, x elsewhere."""
    return torch.where(accept.view(-1, *[1] * (x.ndim - 1)), proposal, x)


def value_and_gradient(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """log f(x), (B,), and its gradient of x's shape, without gradients of anything else."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = log_density(x)
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
    return log_p.detach(), gradient
