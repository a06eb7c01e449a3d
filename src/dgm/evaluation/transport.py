r"""Wasserstein distances between two sets of as many points: exact by an assignment, and sliced."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.neighbours import squared_distances

MOST = 2000  # points of an exact distance, whose time grows as N³
DIRECTIONS = 500
SEED = 0  # of the directions


def wasserstein(x: Tensor, y: Tensor, p: int = 2) -> Tensor:
    r"""The exact p-Wasserstein distance of two sets of N points each, a float64 scalar.

    .. math:: W_p^p = \min_\pi \frac{1}{N} \sum_i |x_i - y_{\pi(i)}|^p

    over permutations. That of samples is biased upwards, by about N^(-1/D): compare at equal N, and with real data in
    the samples' place.

    Source: Computational Optimal Transport (Peyré & Cuturi, 2019), arXiv:1803.00567, equation 2.2 and proposition 2.1.

    Args:
        x: (N, D), N at most 2,000.
        y: (N, D)

    Example:
        >>> x = torch.randn(50, 3)
        >>> round(wasserstein(x, x.flip(0) + torch.tensor([3.0, 4.0, 0.0])).item(), 6)
        5.0
    """
    refuse_other_sizes(x, y)
    if len(x) > MOST:
        raise BadInput(f"an exact Wasserstein distance takes at most {MOST:,} points, got {len(x):,}", "take fewer")
    cost = squared_distances(x.double(), y.double()) ** (p / 2)
    rows, columns = linear_sum_assignment(cost.numpy(force=True))
    return cost[rows, columns].mean() ** (1 / p)


def sliced_wasserstein(x: Tensor, y: Tensor, p: int = 2, directions: int = DIRECTIONS, seed: int = SEED) -> Tensor:
    r"""The sliced p-Wasserstein distance of two sets of N points each, a float64 scalar.

    .. math:: SW_p^p = E_\theta\left[\frac{1}{N} \sum_i |(\theta^T x)_{(i)} - (\theta^T y)_{(i)}|^p\right]

    over directions on the unit sphere and sorted projections. Its bias is about N^(-1/2) in any dimension; it is at
    most D^(-1/2) of the exact distance for p = 2.

    Source: Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015), definition 1.

    Args:
        x: (N, D)
        y: (N, D)
        directions: Random directions, the same in every call of one seed.
    """
    refuse_other_sizes(x, y)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(x.shape[1], directions, generator=generator, dtype=torch.float64)
    theta = theta / theta.norm(dim=0)
    a, b = ((points.double() @ theta).sort(0).values for points in (x, y))
    return (a - b).abs().pow(p).mean() ** (1 / p)


def refuse_other_sizes(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim != 2 or len(x) == 0:
        wrong = f"expected two sets of as many points of one length, got {tuple(x.shape)} and {tuple(y.shape)}"
        raise BadInput(wrong, "take as many of each")
