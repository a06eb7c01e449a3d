"""The discrete decoder of a diffusion model: P(x | z) of ordered levels, from their noisy values z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 6.0  # standard deviations of the noise: levels further away from z have less than 1e-7 of the mass


def log_prob(x: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor, values: int) -> Tensor:
    r"""log P(x | z) of each level x given z = alpha s(x) + sigma eps, with a uniform prior, elementwise.

    .. math:: P(x | z) \propto \exp(-(z - \alpha s(x))^2 / 2\sigma^2), \qquad s(x) = 2x / (K - 1) - 1

    The probabilities of the K levels sum to 1 for any noise: the sum is over all levels within six standard deviations
    of z, at most all K.

    Source: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, section 3.3, the discrete decoder.

    Args:
        x: Levels 0 … K - 1, of z's shape.
        alpha, sigma: Scalars. The number of levels in the sum depends on them, so each call synchronises with a GPU.
        values: K.
    """
    gap = 2 / (values - 1)
    x = x.to(z)
    nearest = ((z / alpha + 1) / gap).round().clamp(0, values - 1)
    reach = reach_of(alpha, sigma, gap, values)
    levels, outside = levels_near(nearest, reach, values)
    log_w = -((z - alpha * (levels * gap - 1)) / sigma).square() / 2
    own_log_w = -((z - alpha * (x * gap - 1)) / sigma).square() / 2
    outside_reach = (x - nearest).abs() > reach  # a level outside of the sum is added to it
    log_total = torch.logaddexp(
        log_w.masked_fill(outside, -torch.inf).logsumexp(0), own_log_w.masked_fill(~outside_reach, -torch.inf)
    )
    return own_log_w - log_total


def reach_of(alpha: Tensor, sigma: Tensor, gap: float, values: int) -> int:
    """Number of levels in the sum to either side of the nearest, at most K - 1."""
    deviation = float(sigma.detach()) / max(float(alpha.detach()) * gap, 1e-30)  # in distances of two levels
    return min(values - 1, math.ceil(REACH * deviation + 0.5))


def levels_near(nearest: Tensor, reach: int, values: int) -> tuple[Tensor, Tensor]:
    """The levels of the sum along a new first dimension, and a mask of those outside the range."""
    if 2 * reach + 1 >= values:
        levels = torch.arange(values).to(nearest).reshape(-1, *[1] * nearest.dim())
        return levels, torch.zeros_like(levels, dtype=torch.bool)
    levels = nearest + torch.arange(-reach, reach + 1).to(nearest).reshape(-1, *[1] * nearest.dim())
    return levels, (levels < 0) | (levels > values - 1)
