r"""Fréchet distance between two sets of features."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.jackknife import Folds, folds

FAR = 1e6  # a squared mean over the variance, from which on six of sixteen digits are lost
PANEL = 256  # columns of a triangular factor taken at a time
SHARED = 512  # features, from which on two threads gain more than they cost
PIECES, LEAST = 4, 10  # the extrapolation cuts sets into up to so many pieces, of at least so many examples


def frechet_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""The squared 2-Wasserstein distance between normals fitted to two sets, a float64 scalar.

    .. math:: \|\mu_1 - \mu_2\|^2 + tr \Sigma_1 + tr \Sigma_2 - 2 \, tr (\Sigma_1 \Sigma_2)^{1/2}

    With N below D the last trace is the nuclear norm of X Y^T / sqrt((n - 1)(m - 1)) over centred rows; otherwise it is
    the sum of the roots of the eigenvalues of L^T Sigma_2 L with Sigma_1 = L L^T, which
    is symmetric. No matrix square root is taken. The distance of finite sets is biased upwards, by about 1 / N: compare
    only at equal N, or compare `frechet_infinity`.

    Source: GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), arXiv:1706.08500, equation 6.

    Args:
        real: (N, D) features.
        generated: (M, D) features.

    Example:
        >>> x = torch.randn(50, 3, dtype=torch.float64)
        >>> round(frechet_distance(x, x + 2).item(), 6)
        12.0
    """
    if real.shape[1:] != generated.shape[1:] or min(len(real), len(generated)) < 2:
        shapes = f"{tuple(real.shape)} and {tuple(generated.shape)}"
        wrong = f"expected two sets of at least 2 feature vectors of one length, got {shapes}"
        raise BadInput(wrong, "draw more samples")
    x, y = real.double(), generated.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    difference = mean_x - mean_y
    if max(len(x), len(y)) < x.shape[1]:
        x, y = (x - mean_x) / (len(x) - 1) ** 0.5, (y - mean_y) / (len(y) - 1) ** 0.5
        return difference.square().sum() + x.square().sum() + y.square().sum() - 2 * nuclear_norm(x, y)
    a, b = covariances((x, y), (mean_x, mean_y))
    return difference.square().sum() + a.trace() + b.trace() - 2 * root_trace(a, b)


def covariances(sets: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor]) -> Iterable[Tensor]:
    threads = torch.get_num_threads()
    if threads == 1 or sets[0].shape[1] < SHARED:
        return map(covariance, sets, means)
    # shared out: a product on one thread and its neighbour beat two in turn on both
    with threadpool_limits(threads // 2, "blas"), ThreadPoolExecutor(2) as pool:
        return list(pool.map(covariance, sets, means))


def frechet_infinity(real: Tensor, generated: Tensor) -> Tensor:
    r"""The Fréchet distance extrapolated to infinitely many examples, a float64 scalar; it can be below 0.

    Both sets are cut into p pieces, p = 1 … 4, and the mean distance of the pieces is fitted by a line in
    1 / n + 1 / m, the inverse sizes of a piece: its value at 0 is free of the bias of order 1 / N.

    Source: Effectively Unbiased FID and Inception Score (Chong & Forsyth, 2020), arXiv:1911.07023, section 4. Differs
    from it: the real examples are finite too, so that both sets shrink together; pieces do not overlap, in place of
    fifteen random subsets, so that at each size all examples count; no quasi-random numbers.

    Args:
        real: (N, D) features, N of at least 40.
        generated: (M, D) features, M of at least 40.
    """
    if min(len(real), len(generated)) < PIECES * LEAST:
        wrong = f"an extrapolation needs {PIECES * LEAST} examples, got {len(real)} real and {len(generated)} generated"
        raise BadInput(wrong, "draw more samples")
    return frechet_and_infinity(folds(real), folds(generated))[1]


def frechet_and_infinity(real: Folds, generated: Folds) -> Tensor:
    """(2,): `frechet_distance` and `frechet_infinity` of folds; a piece takes its share of each fold.

    Which piece an example is in does not depend on which folds are there, so that what a fold adds is all that a
    jackknife sees. The second is NaN where a piece has fewer than ten examples.
    """
    inverse, mean = torch.tensor([at_size(real, generated, p) for p in range(1, PIECES + 1)], dtype=torch.float64).T
    off = inverse - inverse.mean()
    slope = (off * mean).sum() / off.square().sum()
    return torch.stack([mean[0], mean.mean() - slope * inverse.mean()])


def at_size(real: Folds, generated: Folds, pieces: int) -> list[float]:
    """The mean of 1 / n + 1 / m and of the distance over so many pieces."""
    inverse, distance = [], []
    for k in range(pieces):
        x, y = (torch.cat([fold[k::pieces] for fold in side]) for side in (real, generated))
        if pieces > 1 and min(len(x), len(y)) < LEAST:
            return [math.nan, math.nan]
        inverse.append(1 / len(x) + 1 / len(y))
        distance.append(float(frechet_distance(x, y)))
    return [sum(inverse) / pieces, sum(distance) / pieces]


def covariance(x: Tensor, mean: Tensor) -> Tensor:
    """(D, D) of rows, by numpy, which sees that x^T x is symmetric and computes one half of it.

    The means are taken off afterwards, which saves a pass over x, unless one is so far from 0 that digits are lost.
    """
    scatter = products(x).addr_(mean, mean, alpha=-len(x))
    if (len(x) * mean.square() > FAR * scatter.diagonal()).any():
        scatter = products(x - mean)
    return scatter.div_(len(x) - 1)


def products(x: Tensor) -> Tensor:
    rows = x.numpy(force=True)
    return torch.from_numpy(rows.T @ rows)


def nuclear_norm(x: Tensor, y: Tensor) -> Tensor:
    """tr (x^T x y^T y)^(1/2) = the sum of the singular values of x y^T."""
    return torch.linalg.svdvals(x @ y.mT).sum()


def root_trace(a: Tensor, b: Tensor) -> Tensor:
    """tr (a b)^(1/2) of two covariance matrices."""
    factor, failed = torch.linalg.cholesky_ex(a)
    if failed:  # singular: features that are constant, or sums of others
        values, vectors = torch.linalg.eigh(a)
        factor = vectors * values.clamp_min(0).sqrt()
        product = factor.mT @ b @ factor
    else:
        product = congruence(factor, b)
    return torch.linalg.eigvalsh(product).clamp_min(0).sqrt().sum()  # which reads the lower triangle


def congruence(factor: Tensor, b: Tensor) -> Tensor:
    """The lower triangle of L^T b L, for a lower triangular L: no zero is multiplied, no other half made."""
    right, product = torch.empty_like(b), torch.zeros_like(b)
    for start in range(0, len(b), PANEL):
        panel = slice(start, start + PANEL)
        torch.mm(b[:, start:], factor[start:, panel], out=right[:, panel])
    for start in range(0, len(b), PANEL):
        panel = slice(start, start + PANEL)
        torch.mm(factor[start:, panel].mT, right[start:, : panel.stop], out=product[panel, : panel.stop])
    return product
