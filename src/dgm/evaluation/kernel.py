r"""Kernel distance between two sets of features."""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.jackknife import Folds, LeftOut, folds

BLOCK = 512


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
    return kernel_left_out(folds(real), folds(generated)).value[0]


def kernel_left_out(real: Folds, generated: Folds) -> LeftOut:
    """`kernel_distance`, also without each fold: the kernel of each pair is computed once and summed by folds.

    Args:
        real: Folds of features, each (n_k, D).
        generated: Folds of the features of samples.
    """
    x, y = [fold.double() for fold in real], [fold.double() for fold in generated]
    within_x, within_y, across = within_sums(x), within_sums(y), pair_sums(x, y)
    n, m = (torch.tensor([len(fold) for fold in side], dtype=torch.float64) for side in (x, y))
    # each sum without fold k: subtract its row and its column, and add back their intersection
    xx = within_x.sum() - 2 * within_x.sum(1) + within_x.diagonal()
    yy = within_y.sum() - 2 * within_y.sum(1) + within_y.diagonal()
    xy_by_x, xy_by_y = across.sum() - across.sum(1), across.sum() - across.sum(0)
    all_n, all_m = n.sum(), m.sum()
    return LeftOut(
        unbiased(within_x.sum(), within_y.sum(), across.sum(), all_n, all_m)[None],
        unbiased(xx, within_y.sum(), xy_by_x, all_n - n, all_m)[:, None],
        unbiased(within_x.sum(), yy, xy_by_y, all_n, all_m - m)[:, None],
    )


def unbiased(xx: Tensor, yy: Tensor, xy: Tensor, n: Tensor, m: Tensor) -> Tensor:
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    linear = (a @ b.mT).div_(a.shape[1]).add_(1)
    return linear * linear * linear  # three times as fast as a power


def pair_sums(x: Folds, y: Folds) -> Tensor:
    """(G, H): the kernel's sum over the pairs of two folds."""
    of_x, of_y, b = members(x), members(y), torch.cat(list(y))
    parts = zip(torch.cat(list(x)).split(BLOCK), of_x.split(BLOCK), strict=True)
    return torch.stack([of.mT @ (kernel(a, b) @ of_y) for a, of in parts]).sum(0)


def within_sums(x: Folds) -> Tensor:
    """(G, G): the kernel's sum over the pairs i != j of two folds. It is symmetric: one half is computed."""
    of, a = members(x), torch.cat(list(x))
    sums = -(of.mT @ ((a.square().sum(1) / a.shape[1] + 1) ** 3)).diag()
    for rows in torch.arange(len(a)).split(BLOCK):
        start, end = int(rows[0]), int(rows[-1]) + 1
        pairs = kernel(a[rows], a[start:])
        beyond = of[rows].mT @ (pairs[:, end - start :] @ of[end:])
        sums = sums + of[rows].mT @ (pairs[:, : end - start] @ of[rows]) + beyond + beyond.mT
    return sums


def members(parts: Folds) -> Tensor:
    """(n, G): 1 where an example is in the fold, else 0."""
    sizes = torch.tensor([len(part) for part in parts])
    return torch.eye(len(parts), dtype=torch.float64).repeat_interleave(sizes, 0)
