r"""Fréchet distance between two sets of features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from dgm.errors import BadInput

FAR = 1e6  # a squared mean over the variance, from which on six of sixteen digits are lost
PANEL = 256  # columns of a triangular factor taken at a time


def frechet_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""The squared 2-Wasserstein distance between normals fitted to two sets, a float64 scalar.

    .. math:: \|\mu_1 - \mu_2\|^2 + tr \Sigma_1 + tr \Sigma_2 - 2 \, tr (\Sigma_1 \Sigma_2)^{1/2}

    With N below D the last trace is the nuclear norm of X Y^T / sqrt((n - 1)(m - 1)) over centred rows; otherwise it is
    the sum of the roots of the eigenvalues of L^T Sigma_2 L with Sigma_1 = L L^T, which
    is symmetric. No matrix square root is taken. The distance of finite sets is biased upwards, by about 1 / N: compare
    only at equal N.

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
    threads = torch.get_num_threads()  # shared out: a product on one thread and its neighbour beat two in turn on both
    with threadpool_limits(max(1, threads // 2), "blas"), ThreadPoolExecutor(min(2, threads)) as pool:
        a, b = pool.map(covariance, (x, y), (mean_x, mean_y))
    return difference.square().sum() + a.trace() + b.trace() - 2 * root_trace(a, b)


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
