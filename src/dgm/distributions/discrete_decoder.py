"""The discrete decoder of a diffusion model: P(x | z) of ordered levels, from their noisy values z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 6.0  # standard deviations of the noise: levels further than this from z have less than 1e-7 of the mass


def log_prob(x: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor, values: int) -> Tensor:
    r"""log P(x | z) of each level x where z = alpha s(x) + sigma eps and every level is as likely, elementwise.

    .. math:: P(x | z) \propto \exp(-(z - \alpha s(x))^2 / 2\sigma^2), \qquad s(x) = 2x / (K - 1) - 1

    The probabilities of the K levels sum to 1 at any noise: the sum goes over all levels within six standard
    deviations of z, and over all K where those are fewer.

    Source: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, section 3.3, the discrete decoder.

    Args:
        x: Levels 0 … K - 1, of z's shape.
        alpha, sigma: Scalars. How many levels count depends on them, so a GPU is waited for once a call.
        values: K.
    """
    gap = 2 / (values - 1)
    x = x.to(z)
    nearest = ((z / alpha + 1) / gap).round().clamp(0, values - 1)
    reach = reach_of(alpha, sigma, gap, values)
    levels, outside = near(nearest, reach, values)
    log_w = -((z - alpha * (levels * gap - 1)) / sigma).square() / 2
    own = -((z - alpha * (x * gap - 1)) / sigma).square() / 2
    far = (x - nearest).abs() > reach  # a level of next to no mass, which is counted all the same
    total = torch.logaddexp(log_w.masked_fill(outside, -torch.inf).logsumexp(0), own.masked_fill(~far, -torch.inf))
    return own - total


def reach_of(alpha: Tensor, sigma: Tensor, gap: float, values: int) -> int:
    """How many levels to either side of the nearest are summed over; K - 1 are all that there are."""
    deviation = float(sigma.detach()) / max(float(alpha.detach()) * gap, 1e-30)  # in gaps
    return min(values - 1, math.ceil(REACH * deviation + 0.5))


def near(nearest: Tensor, reach: int, values: int) -> tuple[Tensor, Tensor]:
    """The levels to sum over, along a new first dimension, and which of them do not exist."""
    if 2 * reach + 1 >= values:
        levels = torch.arange(values).to(nearest).reshape(-1, *[1] * nearest.dim())
        return levels, torch.zeros_like(levels, dtype=torch.bool)
    levels = nearest + torch.arange(-reach, reach + 1).to(nearest).reshape(-1, *[1] * nearest.dim())
    return levels, (levels < 0) | (levels > values - 1)
