"""A discretised normal distribution of ordered grey levels on [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import log_ndtr

_FAR = 1e4  # standard deviations without mass beyond them in float64; infinity would give NaN gradients


def log_prob(x: Tensor, mean: Tensor, std: Tensor, values: int) -> Tensor:
    r"""log of the mass that N(mean, std²) puts on the cell of level x, elementwise, in float64.

    Levels 0 … values - 1 are equally spaced on [-1, 1]; a cell extends half way to its neighbours, and the outermost
    cells to infinity, so that the masses sum to 1.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, equation 13.
    """
    mean, std = mean.double(), std.double()
    centre, half = x.double() * 2 / (values - 1) - 1, 1 / (values - 1)
    low = torch.where(x == 0, -_FAR, (centre - half - mean) / std)
    high = torch.where(x == values - 1, _FAR, (centre + half - mean) / std)
    mirrored = low + high > 0  # the lower tail is accurate, so a cell above the mean is mirrored
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    return log_ndtr(high) + torch.log1p(-(log_ndtr(low) - log_ndtr(high)).exp())
