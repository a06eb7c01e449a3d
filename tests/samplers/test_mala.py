"""MALA and HMC on densities in one dimension, where every transition can be written out, and on normal ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgm.samplers.hmc import HMC
from dgm.samplers.mala import log_proposal, mala
from dgm.samplers.metropolis import accepted, value_and_gradient


def double_well(x: Tensor) -> Tensor:
    """Skewed, so that no symmetry hides a sign."""
    return (-((x**2 - 1) ** 2) + 0.7 * x).flatten(1).sum(1)


def moved(eta: float, start: float, noise: Tensor, u: Tensor) -> Tensor:
    """The states after one step from ``start``, with each of the numbers of ``noise`` and ``u``."""
    x = torch.full_like(noise, start)
    return next(mala(double_well, x, mala_steps=1, step_size=eta, noise=lambda: noise, uniform=lambda: u)).x[:, 0]


def test_a_step_of_mala_is_in_detailed_balance() -> None:
    """f(x) q(x'|x) a(x, x') is symmetric on a grid. Kills: the correction's sign, no correction, eta for eta / 2.

    The acceptance is found by bisection over u, from the steps alone.
    """
    eta, grid = 0.4, torch.linspace(-1.7, 1.9, 7, dtype=torch.float64)
    flow = torch.zeros(7, 7, dtype=torch.float64)
    for i, start in enumerate(grid):
        log_p, gradient = value_and_gradient(double_well, start.view(1, 1))
        mean = float(start + eta / 2 * gradient)
        noise = ((grid - mean) / math.sqrt(eta))[:, None]
        low, high = torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
        for _ in range(30):
            u = (low + high) / 2
            accept = (moved(eta, float(start), noise, u) - grid).abs() < 1e-9
            low, high = torch.where(accept, u, low), torch.where(accept, high, u)
        density = (-(noise[:, 0] ** 2) / 2).exp() / math.sqrt(2 * math.pi * eta)
        flow[i] = log_p.exp() * density * low
    off = (flow - flow.mT)[~torch.eye(7, dtype=torch.bool)]
    assert float(off.abs().max()) < 1e-7 * float(flow.max())
    assert float(flow.min()) < 0.1 * float(flow.max())


def test_mala_is_one_leapfrog_step_of_hmc() -> None:
    """With the same random numbers, which are accepted and rejected alike. Kills: the sign of the proposal's drift."""
    x, eta = torch.randn(500, 3, dtype=torch.float64), 0.5
    torch.manual_seed(1)
    expected = HMC(lambda x, beta: double_well(x), {1.0: math.sqrt(eta)}, leapfrogs=1)(x, 1.0)
    torch.manual_seed(1)
    draws = torch.randn_like(x), torch.rand(500, dtype=torch.float64)
    (found,) = mala(double_well, x, mala_steps=1, step_size=eta, noise=lambda: draws[0], uniform=lambda: draws[1])
    assert torch.allclose(found.x, expected)
    assert 0.3 < float(found.accepted.double().mean()) < 0.9


def test_a_rejected_proposal_leaves_the_state_its_density_and_its_slope() -> None:
    """Written out for two steps, of which the first is rejected. Kills: the proposal's slope or density kept."""
    x, eta = torch.tensor([[0.3], [-1.1]], dtype=torch.float64), 0.4
    noise = iter([torch.full_like(x, 6.0), torch.full_like(x, 0.1)])
    u = iter([torch.full((2,), 0.999).double(), torch.full((2,), 1e-9).double()])
    steps = mala(double_well, x, mala_steps=2, step_size=eta, noise=lambda: next(noise), uniform=lambda: next(u))
    first, second = steps
    assert torch.equal(first.x, x)
    assert not first.accepted.any()
    _, slope = value_and_gradient(double_well, x)
    torch.testing.assert_close(second.x, x + eta / 2 * slope + math.sqrt(eta) * 0.1)


def test_an_impossible_proposal_is_never_accepted() -> None:
    """Of density 0, or with a density that is not a number, for u of 0 too; a better one always."""
    log_acceptance = torch.tensor([-math.inf, math.nan, 0.0, 1.0])
    assert accepted(log_acceptance, torch.tensor([0.0, 0.3, 0.9999, 0.9999])).tolist() == [False, False, True, True]


def normal(x: Tensor) -> Tensor:
    return -((x - 1) ** 2).sum(1) / (2 * 0.5**2)


def test_its_normal_target_keeps_its_moments_at_a_large_step_and_small_steps_are_accepted() -> None:
    """The unadjusted variance would be 0.25 / (1 - eta / 4 s²) = 0.43. Kills: a rejected state with a new gradient."""
    torch.manual_seed(2)
    n, shares = 20_000, {}
    for eta in (0.42, 0.02, 0.0002):
        x = 1 + 0.5 * torch.randn(n, 1, dtype=torch.float64)
        noise, uniform = (lambda: torch.randn(n, 1, dtype=torch.float64)), (lambda: torch.rand(n, dtype=torch.float64))
        *_, (x, accept) = mala(normal, x, mala_steps=4, step_size=eta, noise=noise, uniform=uniform)
        shares[eta] = float(accept.double().mean())
        assert abs(float(x.mean()) - 1) < 5 * 0.5 / math.sqrt(n)
        assert float(x.var()) == pytest.approx(0.25, rel=5 * math.sqrt(2 / n))
    assert 0.5 < shares[0.42] < 0.9
    assert shares[0.02] > 0.99
    assert shares[0.0002] > 0.9999


def test_a_density_is_of_the_proposal_and_not_of_its_reverse() -> None:
    """N(to; x + eta / 2 g, eta I) up to a constant, by torch's normal."""
    to, x, g = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, -1.0]]), torch.tensor([[3.0, -2.0]])
    density = torch.distributions.Normal(x + 0.15 * g, math.sqrt(0.3))
    expected = density.log_prob(to).sum(1) - density.log_prob(density.mean).sum(1)
    assert torch.allclose(log_proposal(to, x, g, 0.3), expected)
