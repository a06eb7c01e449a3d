"""Langevin's stationary law in closed form, and the energy-based model's training signal."""

from __future__ import annotations

import math

import pytest
import torch

from dgm.models.energy.ebm import EBM
from dgm.samplers.langevin import langevin
from dgm.space import Space


@pytest.mark.parametrize(
    ("std", "eta", "temperature"), [(1.0, 0.5, 1.0), (2.0, 1.0, 1.0), (0.5, 0.1, 1.0), (1.0, 0.5, 0.25)]
)
def test_the_stationary_variance_is_the_discretised_ones(std: float, eta: float, temperature: float) -> None:
    """x' = (1 - eta / 2s²) x + sqrt(eta tau) e has variance tau s² / (1 - eta / 4s²)."""
    x, n = torch.zeros(20_000, dtype=torch.float64), 20_000
    noise = lambda: torch.randn(n, dtype=torch.float64)  # noqa: E731
    for state in langevin(lambda v: -v / std**2, x, steps=200, step_size=eta, noise=noise, temperature=temperature):
        x = state
    expected = temperature * std**2 / (1 - eta / (4 * std**2))
    assert float(x.var()) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))
    assert abs(float(x.mean())) < 5 * math.sqrt(expected / n)


def test_each_step_is_one_state() -> None:
    states = list(langevin(lambda v: -v, torch.ones(1), steps=3, step_size=0.2, noise=lambda: torch.zeros(1)))
    assert [round(s.item(), 6) for s in states] == [0.9, 0.81, 0.729]


def test_descending_the_loss_lowers_data_and_lifts_chains() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(regularisation=0.0, langevin_steps=1))
    x = torch.full((64, 2), 0.7)
    optimiser = torch.optim.SGD(ebm.parameters(), lr=0.02)
    before = (ebm.energy(x) - ebm.energy(torch.rand(64, 2) * 2 - 1)).mean()
    for _ in range(20):
        optimiser.zero_grad()
        ebm.loss(x).mean().backward()
        optimiser.step()
    after = (ebm.energy(x) - ebm.energy(torch.rand(64, 2) * 2 - 1)).mean()
    assert after < before - 0.01


def test_the_score_is_minus_the_energys_gradient_and_chains_go_downhill() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(noise=0.0))
    z = torch.randn(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(ebm.energy(z).sum(), z)
    with torch.no_grad():
        assert torch.allclose(ebm.score(z), -gradient.clamp(-1, 1), atol=1e-6)
        ends = list(ebm.chain(z, 30, lambda: torch.zeros(5, 2)))[-1]
        assert (ebm.energy(ends) < ebm.energy(z)).all()


def test_only_training_moves_the_buffer() -> None:
    ebm = EBM(Space.continuous((2,)), EBM.Config(langevin_steps=1)).eval()
    before = ebm.replay.clone()
    ebm.loss(torch.randn(8, 2))
    assert torch.equal(ebm.replay, before)
    ebm.train().loss(torch.randn(8, 2))
    assert not torch.equal(ebm.replay, before)
