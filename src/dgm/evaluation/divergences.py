r"""f-divergences: from known densities, and from samples by nearest neighbours or by a classifier; Fisher's divergence.

.. math:: D_f(p \| q) = E_q[f(p / q)], \qquad f \text{ convex}, \quad f(1) = 0

in nats where f has a logarithm. Every function takes tensors and returns a value with its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.neighbours import nearest
from dgm.models.gan.objectives import DIVERGENCES

LARGEST = 700.0  # of a log-ratio: exp of more overflows
NEIGHBOURS = 5

F: TypeAlias = Callable[[Tensor], Tensor]


def half(f: F) -> F:
    return lambda u: f(u) / 2


# f of each divergence. Of f-GAN's Jensen-Shannon and squared Hellinger one half, so that they are at most log 2 and 1
FUNCTIONS: Mapping[str, F] = {
    "total_variation": lambda u: (u - 1).abs() / 2,
    "kl": DIVERGENCES["kl"].f,
    "reverse_kl": DIVERGENCES["reverse_kl"].f,
    "jensen_shannon": half(DIVERGENCES["jensen_shannon"].f),
    "squared_hellinger": half(DIVERGENCES["squared_hellinger"].f),
    "chi_squared": DIVERGENCES["pearson"].f,
}


class Estimate(NamedTuple):
    """A float64 scalar and its standard error, which is 0 of a value that is computed without samples."""

    value: Tensor
    error: Tensor


def f_divergence(f: F, at_p: Tensor, at_q: Tensor) -> Estimate:
    r"""Unbiased estimate of D_f(p || q) from samples of both distributions, whose densities are known.

    .. math:: D_f(p \| q) = E_m[g(\log p/q)], \qquad m = (p + q) / 2, \quad g(r) = 2 f(e^r) / (1 + e^r)

    with as much weight on the samples of p as on those of q. For total variation, Jensen-Shannon and Hellinger g is
    bounded, for the Kullback-Leibler divergences it grows linearly, so the variance is finite where that of
    E_q[f(p / q)] is not. The value is infinite where a divergence without bound meets a density of 0.

    Args:
        f: Any convex f with f(1) = 0, such as one of `FUNCTIONS`; differentiable ones need not be.
        at_p: (N,) log p(x) - log q(x) at samples of p.
        at_q: (M,), the same at samples of q.

    Example:
        >>> from torch.distributions import Normal
        >>> p, q = Normal(torch.zeros(()).double(), 1), Normal(torch.ones(()).double(), 1)
        >>> x, y = p.sample((40_000,)), q.sample((40_000,))
        >>> found = f_divergence(FUNCTIONS["kl"], p.log_prob(x) - q.log_prob(x), p.log_prob(y) - q.log_prob(y))
        >>> bool((found.value - 0.5).abs() < 4 * found.error)
        True
    """
    return mean_of(under_mixture(f, at_p), under_mixture(f, at_q))


def under_mixture(f: F, log_ratio: Tensor) -> Tensor:
    """q f(p / q) / ((p + q) / 2); 0 where both densities are."""
    r = log_ratio.double().nan_to_num(0.0, math.inf, -math.inf)
    (value, nearer) = (2 * f(u) / (1 + u) for u in (r.clamp(-most, most).exp() for most in (LARGEST, LARGEST / 2)))
    endless = r.isinf() & ~torch.isclose(value, nearer, rtol=1e-6)  # it still grows with the ratio
    return value.masked_fill(endless, math.inf)


def mean_of(a: Tensor, b: Tensor) -> Estimate:
    """The mean of the means of two independent samples."""
    variance = a.var() / len(a) + b.var() / len(b)
    return Estimate((a.mean() + b.mean()) / 2, variance.sqrt() / 2)


def by_quadrature(f: F, log_p: Tensor, log_q: Tensor, cell: Tensor | float = 1.0) -> Estimate:
    """D_f(p || q) as a sum over cells of the space, or over all states of a discrete one, with a cell of 1.

    Args:
        log_p: (N,) log-density in the middle of each cell.
        log_q: (N,)
        cell: Volume of the cells.

    Example:
        >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])
        >>> by_quadrature(FUNCTIONS["total_variation"], p.log(), q.log()).value
        tensor(0.2500, dtype=torch.float64)
    """
    log_p, log_q = log_p.double(), log_q.double()
    mixture = (log_p.exp() + log_q.exp()) / 2
    value = (torch.where(mixture > 0, mixture * under_mixture(f, log_p - log_q), 0.0) * cell).sum()
    return Estimate(value, torch.zeros_like(value))


def classifier_bound(f: F, at_p: Tensor, at_q: Tensor) -> Estimate:
    r"""A lower bound of D_f(p || q) from the log-ratios of a classifier, at samples that it was not trained on.

    .. math:: D_f(p \| q) \ge E_p[T] - E_q[f^*(T)], \qquad T = f'(e^r), \quad f^*(T) = e^r T - f(e^r)

    which holds of any r, with equality at r = log p / q: the estimate is biased downwards by the classifier's error,
    and is negative if that is large.

    Source: Estimating divergence functionals and the likelihood ratio by convex risk minimization (Nguyen et al.,
    2010), arXiv:0809.0853, lemma 1; f-GAN (Nowozin et al., 2016), arXiv:1606.00709, equation 4.

    Args:
        f: Convex with f(1) = 0.
        at_p: (N,) estimates of log p(x) - log q(x) at samples of p.
        at_q: (M,), the same at samples of q.
    """
    slope, _ = derivative(f, at_p)
    at_fake, u = derivative(f, at_q)
    conjugate = u * at_fake - f(u)
    variance = slope.var() / len(slope) + conjugate.var() / len(conjugate)
    return Estimate(slope.mean() - conjugate.mean(), variance.sqrt())


def derivative(f: F, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """f'(u) and u = exp(r)."""
    u = log_ratio.detach().double().clamp(-LARGEST, LARGEST).exp()
    with torch.enable_grad():
        at = u.clone().requires_grad_()
        (slope,) = torch.autograd.grad(f(at).sum(), at)
    return slope, u


def neighbour_kl(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    r"""Estimate of KL(p || q) from samples by nearest neighbours, a float64 scalar; it can be below 0.

    .. math:: \frac{D}{n} \sum_i \log \frac{\nu_k(x_i)}{\rho_k(x_i)} + \log \frac{m}{n - 1}

    with rho_k the distance from x_i to its k-th neighbour among the other x, and nu_k to that among y. Consistent, but
    both densities are taken as constant within balls: where y has hardly any points near those of x, as in the tails or
    in many dimensions, whose balls shrink only as n^(-1/D), the estimate is far too small. Only its order between
    models at the same N means something there.

    Source: Divergence Estimation for Multidimensional Densities via k-Nearest-Neighbor Distances (Wang et al., 2009),
    IEEE Transactions on Information Theory 55(5), equation 5.

    Args:
        x: (N, D) samples of p, which has a density.
        y: (M, D) samples of q.

    Raises:
        BadInput: If samples are equal, so that a distance is 0, or there are too few.
    """
    x, y = x.double(), y.double()
    if len(x) <= k or len(y) < k:
        raise BadInput(f"{k} neighbours need more than {k} examples, got {len(x)} and {len(y)}", "draw more samples")
    rho, nu = kth_distance(x, x, k + 1), kth_distance(x, y, k)  # the nearest of the x is the example itself
    if min(rho.min(), nu.min()) == 0:
        wrong = f"of some examples the {k} nearest are equal to it: the data has no density"
        raise BadInput(wrong, "compare by another measure")
    return x.shape[1] * (nu.log() - rho.log()).mean() + math.log(len(y) / (len(x) - 1))


def kth_distance(x: Tensor, y: Tensor, k: int) -> Tensor:
    """(N,) distance from each x to its k-th nearest y, by differences: those of `nearest` are rounded."""
    found = y[nearest(x, y, k)[1]] - x[:, None]
    return found.norm(dim=2).max(1).values


def fisher_divergence(score_p: Tensor, score_q: Tensor) -> Estimate:
    r"""Fisher's divergence, E_p |grad log p - grad log q|^2. Neither density need be normalised.

    Source: Estimation of Non-Normalized Statistical Models by Score Matching (Hyvärinen, 2005), equation 2, without
    the factor 1/2.

    Args:
        score_p: (N, D) gradients of log p at samples of p.
        score_q: (N, D) gradients of log q at the same points.
    """
    squared = (score_p.double() - score_q.double()).square().flatten(1).sum(1)
    return Estimate(squared.mean(), squared.std() / len(squared) ** 0.5)


def score_of(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a log-density (N,) at x (N, ...), by automatic differentiation."""
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        total = log_density(at).sum()
        if not total.requires_grad:
            raise BadInput("the density has steps, and no gradient with respect to x", "compare smooth densities")
        (score,) = torch.autograd.grad(total, at)
    return score
