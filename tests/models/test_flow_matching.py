"""Flow matching where the best velocity is known: data N(m, s²), carried to noise by an affine map."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dgm.errors import Unsupported
from dgm.models.flow_matching.flow_matching import FlowMatching
from dgm.processes.gaussian import over
from dgm.samplers import flow_density
from dgm.seeds import streams
from dgm.space import Space

M, S = 0.3, 0.6


class Optimal(nn.Module):
    """E[eps - x_0 | x_t] for x_0 ~ N(M, S²): x_t has the mean (1-t) M and the variance v, and dx/dt follows both."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = over(t, x_t)
        v = (1 - t) ** 2 * S**2 + t**2
        return -M + (t - (1 - t) * S**2) / v * (x_t - (1 - t) * M)


class Knowing(nn.Module):
    """eps - x_0 itself, by knowing x_0."""

    def __init__(self, x_0: Tensor) -> None:
        super().__init__()
        self.x_0 = x_0

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return (x_t - self.x_0) / over(t, x_t)


def flow_matching(space: Space, condition: Space | None = None, **config: object) -> FlowMatching:
    return FlowMatching(space, FlowMatching.Config(width=8, **config), condition).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [2, 20])
def test_density_is_the_gaussians(dim: int) -> None:
    """By the exact trace in 2 dimensions; in 20 by signs, which are exact for a diagonal Jacobian."""
    model = flow_matching(Space.continuous((dim,)))
    model.network = Optimal()  # type: ignore[assignment]
    x = torch.randn(7, dim, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob_estimate(x), Normal(M, S).log_prob(x).sum(1), atol=1e-3 * dim, rtol=0)
    assert ("exact" if dim == 2 else "stochastic") in model.likelihood_method


def test_density_is_in_the_datas_own_units() -> None:
    """On [0, 4] the network sees (x - 2) / 2."""
    model = flow_matching(Space.continuous((2,), low=0.0, high=4.0))
    model.network = Optimal()  # type: ignore[assignment]
    x = torch.rand(5, 2, dtype=torch.float64) * 4
    expected = Normal(2 + 2 * M, 2 * S).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob_estimate(x), expected, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_stochastic_density_averages_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = flow_matching(Space.continuous((3,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.randn(1, 3, dtype=torch.float64)
    exact = flow_density.log_prob(model, x, ode=flow_density.ODE(tolerance=1e-5)).item()  # the network is rough in t
    monkeypatch.setattr("dgm.samplers.flow_density.EXACT_TRACE", 0)
    draws = model.log_prob_estimate(x.expand(4000, 3))
    assert draws.std() > 1e-3
    assert draws.mean().item() == pytest.approx(exact, abs=4 * draws.std().item() / 4000**0.5)


@pytest.mark.parametrize(("solver", "steps", "tolerance"), [("euler", 1000, 5e-3), ("heun", 50, 2e-3)])
def test_samples_are_the_noise_moved_and_scaled(solver: str, steps: int, tolerance: float) -> None:
    model = flow_matching(Space.continuous((2,)), solver=solver, sampling_steps=steps)
    model.network = Optimal()  # type: ignore[assignment]
    noise = streams(6, 0).normal((2,)).double()
    torch.testing.assert_close(model.sample(6, seed=0), M + S * noise, atol=tolerance, rtol=0)


def test_loss_is_zero_with_the_answer_and_counts_both_ends_untrained() -> None:
    torch.manual_seed(0)
    model, x = flow_matching(Space.continuous((2,))), 3 * torch.ones(20_000, 2, dtype=torch.float64)
    assert model.loss(x).mean().item() == pytest.approx(10, abs=0.2)  # E (eps - 3)²
    model.network = Knowing(x)  # type: ignore[assignment]
    assert model.loss(x).max() < 1e-12


def test_estimate_is_the_random_states_own_and_keeps_no_graph() -> None:
    model, x = flow_matching(Space.continuous((20,))), torch.randn(3, 20, dtype=torch.float64)
    with torch.no_grad():
        model.network.body.head.weight.normal_()
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(model.log_prob_estimate(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not draws[0].requires_grad


def test_a_label_moves_the_density() -> None:
    torch.manual_seed(0)
    model, x = flow_matching(Space.continuous((2,)), Space.categories(2)), torch.zeros(1, 2, dtype=torch.float64)
    with torch.no_grad():
        model.network.body.head.weight.normal_()
    one, other = (model.log_prob_estimate(x, torch.tensor([y])) for y in (0, 1))
    assert not math.isclose(one.item(), other.item(), rel_tol=1e-6)
    with pytest.raises(Unsupported):
        model.log_prob_estimate(x)


@pytest.mark.parametrize(("path", "first"), [("straight", 0.0), ("variance_preserving", 1e-3)])
def test_times_are_uniform_from_the_first_to_one(path: Any, first: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: times that end before or after 1, 1e-3 where the velocity is bounded."""
    model, seen = FlowMatching(Space.continuous((2,)), FlowMatching.Config(path=path)), list[torch.Tensor]()
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    u = torch.tensor([0.0, 0.25, 1.0])
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: u)
    model.loss(torch.randn(3, 2))
    torch.testing.assert_close(seen[0].flatten(), first + (1 - first) * u)
