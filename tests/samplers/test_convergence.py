"""Split-R̂ and the effective sample size: autoregressive chains, whose values are known, and the sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dgm.errors import BadInput
from dgm.samplers.convergence import effective_sample_size, normal_scores, split_r_hat


def autoregressive(phi: float, chains: int = 8, states: int = 10_000) -> Tensor:
    """x_t = phi x_{t-1} + e, stationary with variance 1, by one matrix of powers for each block of states."""
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(chains, states, generator=generator, dtype=torch.float64) * math.sqrt(1 - phi**2)
    e[:, 0] /= math.sqrt(1 - phi**2)
    x = e.numpy().copy()
    for t in range(1, states):
        x[:, t] += phi * x[:, t - 1]
    return torch.from_numpy(x)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_the_effective_sample_size_of_an_autoregressive_chain_is_known(phi: float) -> None:
    """N (1 - phi) / (1 + phi). Kills: lags without their factor 2, lag 0 twice, a sum that goes on into the noise.

    The tolerance is three times the error that is seen over seeds, at the longest correlation.
    """
    x = autoregressive(phi)
    for ranked in (False, True):
        found = effective_sample_size(x.exp() if ranked else x + 3, ranked=ranked) / x.numel()
        assert found == pytest.approx((1 - phi) / (1 + phi), rel=0.15)
    assert split_r_hat(x) == pytest.approx(1, abs=0.005)


def test_split_r_hat_is_its_definition_and_sees_chains_apart() -> None:
    """Written out by numpy. Kills: B without its N, the variance over N, halves that are not split."""
    x = autoregressive(0.7, 3, 40) + torch.tensor([[0.0], [1.0], [5.0]])
    halves = np.concatenate([x[:, :20].numpy(), x[:, 20:].numpy()])
    within = np.mean([half.var(ddof=1) for half in halves])
    between = 20 * np.var([half.mean() for half in halves], ddof=1)
    expected = math.sqrt((19 / 20 * within + between / 20) / within)
    assert split_r_hat(x, ranked=False) == pytest.approx(expected)
    y = 0.3 * x + autoregressive(0.8, 6, 40)[3:]  # with pairs whose sum would rise
    halves = np.concatenate([y[:, :20].numpy(), y[:, 20:].numpy()])
    assert effective_sample_size(y, ranked=False) == pytest.approx(written_out_sample_size(halves))
    drifting = torch.linspace(0, 9, 400).expand(2, 400) + autoregressive(0.0, 2, 400)
    assert split_r_hat(drifting) > 1.5, "two chains that agree, each of which moves"
    heavy = torch.from_numpy(stats.cauchy.rvs(size=(4, 2000), random_state=0))
    heavy[0] += 3
    assert split_r_hat(heavy) > 1.05 > split_r_hat(heavy, ranked=False), "a mean that does not exist hides the shift"


def written_out_sample_size(halves: np.ndarray) -> float:
    centred = halves - halves.mean(1, keepdims=True)
    n, within = halves.shape[1], np.mean(halves.var(1, ddof=1))
    total = (n - 1) / n * within + halves.mean(1).var(ddof=1)
    lags = [np.mean((centred[:, : n - t] * centred[:, t:]).sum(1)) / (n - 1) for t in range(n)]
    rho = [1 - (within - lag) / total for lag in lags]
    tau, least = -1.0, math.inf
    for pair in (rho[k] + rho[k + 1] for k in range(0, n, 2)):
        if pair < 0:
            break
        least = min(least, pair)
        tau += 2 * least
    return halves.size / tau


def test_chains_that_alternate_count_as_no_more_than_s_log10_s() -> None:
    """The bound that Stan sets, of 4 chains of 250 states of one sign after the other."""
    x = torch.tensor([1.0, -1.0]).double().repeat(4, 125) + 0.01 * autoregressive(0.0, 4, 250)
    assert effective_sample_size(x, ranked=False) == pytest.approx(1000 * 3)


def test_ranks_of_ties_are_their_mean() -> None:
    x = torch.tensor([[3.0, 1.0], [3.0, 2.0]])
    expected = stats.norm.ppf((stats.rankdata(x.numpy().ravel()) - 3 / 8) / 4.25)
    assert normal_scores(x).flatten().tolist() == pytest.approx(expected.tolist())


def test_chains_that_are_too_short_are_refused() -> None:
    for wrong in (torch.zeros(3, 3), torch.zeros(8)):
        with pytest.raises(BadInput, match="at least 4 states"):
            split_r_hat(wrong)
