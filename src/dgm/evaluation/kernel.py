r"""Maximum mean discrepancy under several kernels, the kernel distance of features, and a permutation test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from dgm.data import order
from dgm.errors import BadInput
from dgm.evaluation.jackknife import Folds, LeftOut, folds
from dgm.evaluation.neighbours import squared_distances

BLOCK = 512
OF_BANDWIDTH = 1000  # points, at most, whose median distance is the bandwidth
PERMUTATIONS = 500

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # of (N, D) and (M, D), (N, M)


def cubic(a: Tensor, b: Tensor) -> Tensor:
    """(a^T b / D + 1)^3, the kernel of the kernel distance of features."""
    linear = (a @ b.mT).div_(a.shape[1]).add_(1)
    return linear * linear * linear  # three times as fast as a power


def minus_distance(a: Tensor, b: Tensor) -> Tensor:
    """-|a - b|, whose squared maximum mean discrepancy is the energy distance."""
    return -squared_distances(a, b).sqrt()


def median_distance(x: Tensor) -> float:
    """The median distance between different points of a pooled sample, at most a thousand of them."""
    some = x[order(len(x), 0, 0)[:OF_BANDWIDTH]].double()
    median = float(squared_distances(some, some)[torch.ones(len(some), len(some)).triu(1) > 0].median())
    return median**0.5 if median > 0 else 1.0


# name -> the kernel for a bandwidth, which is the median distance
KERNELS: Mapping[str, Callable[[float], Kernel]] = {
    "gaussian": lambda h: lambda a, b: (-squared_distances(a, b) / (2 * h**2)).exp(),
    "laplace": lambda h: lambda a, b: (-squared_distances(a, b).sqrt() / h).exp(),
    "inverse_multiquadric": lambda h: lambda a, b: (1 + squared_distances(a, b) / h**2).rsqrt(),
    "cubic": lambda h: cubic,
    "energy": lambda h: minus_distance,
}


def mmd(x: Tensor, y: Tensor, kernel: Kernel = cubic) -> Tensor:
    r"""The unbiased squared maximum mean discrepancy, a float64 scalar; it can be below 0.

    .. math::
        \frac{\sum_{i \ne j} k(x_i, x_j)}{n(n-1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m(m-1)}
        - \frac{2}{nm} \sum_{i,j} k(x_i, y_j)

    With `minus_distance` it is the energy distance, 2 E|x - y| - E|x - x'| - E|y - y'|.

    Source: A Kernel Two-Sample Test (Gretton et al., 2012), JMLR 13, equation 3, and section 8 for the median distance
    as the bandwidth; Equivalence of distance-based and RKHS-based statistics in hypothesis testing (Sejdinovic et al.,
    2013), arXiv:1207.6076, theorem 22.

    Args:
        x: (N, D)
        y: (M, D)
        kernel: Symmetric, such as ``KERNELS["gaussian"](median_distance(torch.cat([x, y])))``.
    """
    if min(len(x), len(y)) < 2:
        raise BadInput(
            f"a kernel distance needs two sets of at least 2, got {len(x)} and {len(y)}", "draw more samples"
        )
    return kernel_left_out(folds(x), folds(y), kernel).value[0]


def kernel_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""The unbiased squared maximum mean discrepancy under k(a, b) = (a^T b / D + 1)^3, known as KID.

    Source: Demystifying MMD GANs (Binkowski et al., 2018), arXiv:1801.01401, section 3; over all pairs and not over
    random subsets.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
    """
    return mmd(real, generated)


def kernel_distance_of_parts(real: Tensor, generated: Tensor, parts: int = 2, seed: int = 0) -> Tensor:
    """The mean of `kernel_distance` over disjoint random parts of both sets, in their own precision, for large sets.

    Where the distributions are equal, all pairs of N = 10,000 have a variance of 8 / N² (times that of the kernel), and
    the mean of 100 random subsets of 1,000, as in the paper, 8 / N² + 8 / (100 · 1000²), twice as much. So have two
    halves, 8 / (2 (N / 2)²), which take a third of the products. Where they differ, all have about the same variance.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
    """
    if min(len(real), len(generated)) < 2 * parts:
        wrong = f"{parts} parts need two sets of at least {2 * parts}, got {len(real)} and {len(generated)}"
        raise BadInput(wrong, "draw more samples, or take fewer parts")
    x, y = (v[order(len(v), seed, k)] for k, v in enumerate((real, generated)))
    return torch.stack([cubic_mmd(x[k::parts], y[k::parts]) for k in range(parts)]).mean()


def cubic_mmd(x: Tensor, y: Tensor) -> Tensor:
    """`kernel_distance` in the precision of the features; sums in float64."""
    sizes = torch.tensor([len(x), len(y)], dtype=torch.float64)
    return unbiased(cubic_sum(x, x), cubic_sum(y, y), cubic_sum(x, y), *sizes)


def cubic_sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of the cubic kernel over pairs, without those of an example and itself, for which one half is computed.

    All blocks use the same memory: to reserve it anew for each would take a third as long as the products.
    """
    total = torch.zeros((), dtype=torch.float64)
    memory = x.new_empty(2, min(BLOCK, len(x)) * len(y))
    for start in range(0, len(x), BLOCK):
        rows, columns = x[start : start + BLOCK], y[start:] if y is x else y
        linear, values = memory[:, : len(rows) * len(columns)].view(2, len(rows), len(columns))
        torch.mm(rows, columns.mT, out=linear).div_(x.shape[1]).add_(1)
        torch.mul(linear, linear, out=values).mul_(linear)
        if y is x:
            values.diagonal().zero_()
            total += values[:, len(rows) :].sum(dtype=torch.float64)  # the pairs below the diagonal
        total += values.sum(dtype=torch.float64)
    return total


def kernel_left_out(real: Folds, generated: Folds, kernel: Kernel = cubic) -> LeftOut:
    """`mmd`, also without each fold: the kernel of each pair is computed once and summed by folds.

    Args:
        real: Folds of features, each (n_k, D).
        generated: Folds of the features of samples.
    """
    x, y = [fold.double() for fold in real], [fold.double() for fold in generated]
    within_x, within_y, across = within_sums(x, kernel), within_sums(y, kernel), pair_sums(x, y, kernel)
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


def permutation_p(x: Tensor, y: Tensor, kernel: Kernel, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """The p-value of equal distributions: the share of random relabellings with at least this discrepancy.

    The observed labels count as one of them, so that the test keeps its level exactly at any number of permutations.

    Source: A Kernel Two-Sample Test (Gretton et al., 2012), JMLR 13, section 5; Permutation P-values Should Never Be
    Zero (Phipson & Smyth, 2010), for the observed labels.

    Args:
        x: (N, D)
        y: (M, D); the kernel of all pairs of N + M is kept in memory.
    """
    points, n = torch.cat([x, y]).double(), len(x)
    pairs = torch.cat([kernel(part, points) for part in points.split(BLOCK)]).fill_diagonal_(0)
    labels = torch.zeros(len(points), 1 + permutations, dtype=torch.float64)
    labels[:n, 0] = 1
    for k in range(1, 1 + permutations):
        labels[order(len(points), seed, k)[:n], k] = 1
    of_x = pairs @ labels
    xx, x_all, total = (labels * of_x).sum(0), of_x.sum(0), pairs.sum()
    sizes = torch.tensor(float(n)), torch.tensor(float(len(y)))
    found = unbiased(xx, total - 2 * x_all + xx, x_all - xx, *sizes)
    least = found[0] - 1e-9 * pairs.abs().mean()  # a relabelling into the same two sets differs by rounding alone
    return float((found >= least).double().mean())


def pair_sums(x: Folds, y: Folds, kernel: Kernel) -> Tensor:
    """(G, H): the kernel's sum over the pairs of two folds."""
    of_x, of_y, b = members(x), members(y), torch.cat(list(y))
    parts = zip(torch.cat(list(x)).split(BLOCK), of_x.split(BLOCK), strict=True)
    return torch.stack([of.mT @ (kernel(a, b) @ of_y) for a, of in parts]).sum(0)


def within_sums(x: Folds, kernel: Kernel) -> Tensor:
    """(G, G): the kernel's sum over the pairs i != j of two folds. It is symmetric: one half is computed."""
    of, a = members(x), torch.cat(list(x))
    sums = torch.zeros(len(x), len(x), dtype=torch.float64)
    for rows in torch.arange(len(a)).split(BLOCK):
        start, end = int(rows[0]), int(rows[-1]) + 1
        pairs = kernel(a[rows], a[start:])
        pairs.diagonal().zero_()  # an example and itself
        beyond = of[rows].mT @ (pairs[:, end - start :] @ of[end:])
        sums = sums + of[rows].mT @ (pairs[:, : end - start] @ of[rows]) + beyond + beyond.mT
    return sums


def members(parts: Folds) -> Tensor:
    """(n, G): 1 where an example is in the fold, else 0."""
    sizes = torch.tensor([len(part) for part in parts])
    return torch.eye(len(parts), dtype=torch.float64).repeat_interleave(sizes, 0)
