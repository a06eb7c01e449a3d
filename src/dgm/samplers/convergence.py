r"""How far Markov chains have converged: split-R̂ and the effective sample size, rank-normalised or plain.

With M halves of chains of N states each, W the mean of their variances and B / N the variance of their means,

.. math:: \hat R = \sqrt{\frac{\frac{N-1}{N} W + \frac{1}{N} B}{W}}, \qquad
    \hat\rho_t = 1 - \frac{W - \frac{1}{M} \sum_m s_m^2 \hat\rho_{t,m}}{\frac{N-1}{N} W + \frac{1}{N} B}, \qquad
    \mathrm{ESS} = \frac{MN}{1 + 2 \sum_{t \ge 1} \hat\rho_t}

The sum ends before the first pair of lags, 2 k and 2 k + 1, whose sum is negative, and the pairs' sums are made
non-increasing: Geyer's initial monotone sequence.

Source: Rank-normalization, folding, and localization: an improved R̂ (Vehtari et al., 2021), arXiv:1903.08008, sections
3.1 (R̂), 3.2 (ESS) and 4 (ranks). Differs from it: no folding, which would detect chains that differ in scale alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.errors import BadInput

FEWEST = 4  # states of a chain: two for each half


def split_r_hat(chains: Tensor, *, ranked: bool = True) -> float:
    """Split-R̂; 1 for converged chains, and above 1.01 for chains that have not mixed.

    Args:
        chains: (chains, states) of one number, such as the energy of each state.
        ranked: Rank-normalise: finite for heavy tails, too. Without it this is split-R̂ of Gelman et al., 2013.

    Example:
        >>> chains = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> round(split_r_hat(chains), 2), split_r_hat(chains + 9 * torch.arange(4)[:, None]) > 1.5
        (1.0, True)
    """
    within, total = variances(prepared(chains, ranked=ranked))
    return float((total / within).sqrt())


def effective_sample_size(chains: Tensor, *, ranked: bool = True) -> float:
    """The number of independent draws with the same variance of the mean; of ranks, the source's bulk-ESS.

    Args:
        chains: (chains, states), as for `split_r_hat`.
    """
    x = prepared(chains, ranked=ranked)
    within, total = variances(x)
    rho = 1 - (within - autocovariances(x).mean(0) * x.shape[1] / (x.shape[1] - 1)) / total
    rho[0] = 1
    pairs = rho[: len(rho) // 2 * 2].view(-1, 2).sum(1)
    positive = int((pairs < 0).double().argmax()) if bool((pairs < 0).any()) else len(pairs)
    pairs = pairs[:positive].cummin(0).values
    # of antithetic chains, whose sum may be below 0, no more than S log10 S, as in Stan
    tau = max(float(2 * pairs.sum() - 1), 1 / float(torch.tensor(float(x.numel())).log10()))
    return x.numel() / tau


def prepared(chains: Tensor, *, ranked: bool) -> Tensor:
    """The halves of the chains in float64, (2 chains, states // 2)."""
    if chains.ndim != 2 or chains.shape[1] < FEWEST:
        wrong = f"expected (chains, states) with at least {FEWEST} states, got {tuple(chains.shape)}"
        raise BadInput(wrong, "give one number of each state, such as its energy")
    half = chains.shape[1] // 2
    halves = torch.cat([chains[:, :half], chains[:, -half:]]).double()
    return normal_scores(halves) if ranked else halves


def normal_scores(x: Tensor) -> Tensor:
    """The normal quantile of (r - 3/8) / (S + 1/4), with r the rank among all S numbers, the mean rank for ties."""
    _, inverse, counts = x.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts - 1) / 2
    return torch.special.ndtri((ranks[inverse].double() - 3 / 8) / (x.numel() + 1 / 4))


def variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """W, and the variance of all states, (N - 1) / N W + B / N."""
    within, n = x.var(1).mean(), x.shape[1]
    return within, (n - 1) / n * within + x.mean(1).var()


def autocovariances(x: Tensor) -> Tensor:
    """The autocovariance of each chain at each lag, divided by N at every lag, (chains, N)."""
    n = x.shape[1]
    spectrum = torch.fft.rfft(x - x.mean(1, keepdim=True), 2 * n)
    return torch.fft.irfft(spectrum.abs().square(), 2 * n)[:, :n] / n
