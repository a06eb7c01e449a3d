"""Block Gibbs sampling of a normal pair, whose chain is autoregressive."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgm.samplers.gibbs import block_gibbs


def test_a_sweep_of_a_normal_pair_is_an_autoregression_with_its_squared_correlation() -> None:
    """x | y ~ N(rho y, 1 - rho²) and y | x alike: E[y' | y] = rho² y. Kills: blocks drawn from the states before."""
    torch.manual_seed(0)
    n, rho = 50_000, 0.8

    def conditional(other: Tensor) -> Tensor:
        return rho * other + math.sqrt(1 - rho**2) * torch.randn(n, dtype=torch.float64)

    start = torch.full((n,), 3.0, dtype=torch.float64)
    conditionals = [lambda x, y: conditional(y), lambda x, y: conditional(x)]
    states = list(block_gibbs([start * torch.nan, start], conditionals, sweeps=12))
    for sweep in (1, 2):
        assert float(states[sweep - 1][1].mean()) == pytest.approx(3 * rho ** (2 * sweep), abs=5 / math.sqrt(n))
    pair = torch.stack(states[-1])
    assert float(pair.corrcoef()[0, 1]) == pytest.approx(rho, abs=5 * (1 - rho**2) / math.sqrt(n))
    assert pair.var(1).tolist() == pytest.approx([1, 1], rel=5 * math.sqrt(2 / n))
