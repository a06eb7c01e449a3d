"""Ordered levels seen through Gaussian noise: which level it was."""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 4  # levels to either side of the nearest that can have been meant


def log_prob(x: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor, values: int) -> Tensor:
    r"""log P(x | z) of each level x where z = alpha s(x) + sigma eps and every level is as likely, elementwise.

    .. math:: P(x | z) \propto \exp(-(z - \alpha s(x))^2 / 2\sigma^2), \qquad s(x) = 2x / (K - 1) - 1

    Source: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, section 3.3, the discrete decoder.
    Levels further than 4 from x or from z are left out: sigma / alpha is to be no more than the gap of two levels.
    """
    gap = 2 / (values - 1)
    x = x.to(z)
    nearest = ((z / alpha + 1) / gap).round().clamp(0, values - 1)
    offsets = torch.arange(-REACH, REACH + 1, device=z.device).to(z).reshape(-1, *[1] * z.dim())
    levels = nearest + offsets
    log_w = -((z - alpha * (levels * gap - 1)) / sigma).square() / 2
    log_w = log_w.masked_fill((levels < 0) | (levels > values - 1), -torch.inf)
    own = -((z - alpha * (x * gap - 1)) / sigma).square() / 2
    far = (x - nearest).abs() > REACH
    total = torch.logaddexp(log_w.logsumexp(0), own.masked_fill(~far, -torch.inf))
    return own - total
