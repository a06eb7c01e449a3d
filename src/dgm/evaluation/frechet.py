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

FAR = 1e6  # squared mean over variance: above this, six of sixteen digits are lost
PANEL = 256  # columns of a triangular factor in one block
SHARED = 512  # features, from which on two threads are faster than one
PIECES, LEAST = 4, 10  # most subsets of the extrapolation, and the fewest examples in one


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
    # two products in parallel on half of the threads each are faster than one after the other on all threads
    with threadpool_limits(threads // 2, "blas"), ThreadPoolExecutor(2) as pool:
        return list(pool.map(covariance, sets, means))


def frechet_infinity(real: Tensor, generated: Tensor) -> Tensor:
    r"""The Fréchet distance extrapolated to infinitely many examples, a float64 scalar; it can be below 0.

    Both sets are divided into p subsets, p = 1 … 4, and the mean distance of the subsets is fitted by a line in
    1 / n + 1 / m, their inverse sizes: its value at 0 is free of the bias of order 1 / N.

    Source: Effectively Unbiased FID and Inception Score (Chong & Forsyth, 2020), arXiv:1911.07023, section 4. Differs
    from it: the number of real examples is finite too, so the sizes of both sets are reduced together; disjoint
    subsets in place of fifteen random ones, so that at each size all examples are used; no quasi-random numbers.

    Args:
        real: (N, D) features, N of at least 40.
        generated: (M, D) features, M of at least 40.
    """
    if min(len(real), len(generated)) < PIECES * LEAST:
        wrong = f"an extrapolation needs {PIECES * LEAST} examples, got {len(real)} real and {len(generated)} generated"
        raise BadInput(wrong, "draw more samples")
    return frechet_and_infinity(folds(real), folds(generated))[1]


def frechet_and_infinity(real: Folds, generated: Folds) -> Tensor:
    """(2,): `frechet_distance` and `frechet_infinity` of folds; a subset contains the same share of each fold.

    The subset of an example does not depend on the other folds, so that a jackknife measures only the contribution of
    the fold that is left out. The second is NaN if a subset has fewer than ten examples.
    """
    inverse, mean = torch.tensor([at_size(real, generated, p) for p in range(1, PIECES + 1)], dtype=torch.float64).T
    off = inverse - inverse.mean()
    slope = (off * mean).sum() / off.square().sum()
    return torch.stack([mean[0], mean.mean() - slope * inverse.mean()])


def at_size(real: Folds, generated: Folds, pieces: int) -> list[float]:
    """The mean of 1 / n + 1 / m and of the distance over that many subsets."""
    inverse, distance = [], []
    for k in range(pieces):
        x, y = (torch.cat([fold[k::pieces] for fold in side]) for side in (real, generated))
        if pieces > 1 and min(len(x), len(y)) < LEAST:
            return [math.nan, math.nan]
        inverse.append(1 / len(x) + 1 / len(y))
        distance.append(float(frechet_distance(x, y)))
    return [sum(inverse) / pieces, sum(distance) / pieces]


def covariance(x: Tensor, mean: Tensor) -> Tensor:
    """(D, D) of rows, by numpy, which computes only one half of the symmetric product x^T x.

    The means are subtracted afterwards, which saves a pass over x, unless a mean is so large that precision is lost.
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
