r"""Kernel distance between two sets of features."""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.errors import BadInput

BLOCK = 2048


def kernel_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""The unbiased squared maximum mean discrepancy under a cubic kernel, a float64 scalar; it can be below 0.

    .. math::
        \frac{\sum_{i \ne j} k(x_i, x_j)}{n(n-1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m(m-1)}
        - \frac{2}{nm} \sum_{i,j} k(x_i, y_j), \qquad k(a, b) = (a^T b / D + 1)^3

    Source: Demystifying MMD GANs (Binkowski et al., 2018), arXiv:1801.01401, section 3; over all pairs and not over
    random subsets.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
    """
    n, m = len(real), len(generated)
    if min(n, m) < 2:
        raise BadInput(f"the kernel distance needs two sets of at least 2, got {n} and {m}", "draw more samples")
    x, y = real.double(), generated.double()
    within = within_sum(x) / (n * (n - 1)) + within_sum(y) / (m * (m - 1))
    across = sum((kernel(part, y).sum() for part in x.split(BLOCK)), torch.zeros((), dtype=x.dtype))
    return within - 2 * across / (n * m)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT / a.shape[1] + 1) ** 3


def within_sum(x: Tensor) -> Tensor:
    """The kernel's sum over i != j. It is symmetric, so of two blocks that mirror each other one is computed."""
    parts = x.split(BLOCK)
    total = -((x.square().sum(1) / x.shape[1] + 1) ** 3).sum()
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[i:], i):
            total = total + kernel(a, b).sum() * (1 if i == j else 2)
    return total
