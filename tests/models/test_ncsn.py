"""NCSN where the score of each perturbed density is known: data N(m, s²)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dgm.errors import BadInput
from dgm.models.score.ncsn import NCSN
from dgm.processes.gaussian import over
from dgm.space import Space

M, S = 0.3, 0.6


class Linear(nn.Module):
    """A score of -slope (x - M) / (S² + sigma²), in the units in which the network is asked; slope 1 is the truth."""

    def __init__(self, model: NCSN) -> None:
        super().__init__()
        self.path, self.slope, self.shift = model.path, nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        sigma = self.path.sigma(over(t, x))
        x_t = x * (1 + sigma**2).sqrt()
        return sigma * self.slope * (x_t - M - self.shift) / (S**2 + sigma**2)


class Knowing(nn.Module):
    """The score of q(x_t | x_0), by knowing x_0."""

    def __init__(self, model: NCSN, x_0: Tensor) -> None:
        super().__init__()
        self.path, self.x_0 = model.path, x_0

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        sigma = self.path.sigma(over(t, x))
        return (x * (1 + sigma**2).sqrt() - self.x_0) / sigma


def ncsn(space: Space | None = None, **config: object) -> NCSN:
    return NCSN(space or Space.continuous((1,)), NCSN.Config(width=8, **config)).double()  # type: ignore[arg-type]


def test_true_score_makes_the_gradient_of_the_loss_zero() -> None:
    """Vincent's identity: matching the score of q(x_t | x_0) matches that of q(x_t)."""
    torch.manual_seed(0)
    model = ncsn(sigma_max=2.0, sigma_min=0.2, noise_scales=4)
    model.network = network = Linear(model)  # type: ignore[assignment]
    gradients = []
    for _ in range(40):
        loss = model.loss(M + S * torch.randn(5000, 1, dtype=torch.float64)).mean()
        gradients.append(torch.stack(torch.autograd.grad(loss, [network.slope, network.shift])))
    drawn = torch.stack(gradients)
    assert (drawn.mean(0).abs() < 4 * drawn.std(0) / 40**0.5).all()
    with torch.no_grad():
        network.slope.fill_(0.8)
    loss = model.loss(M + S * torch.randn(100_000, 1, dtype=torch.float64)).mean()
    assert torch.autograd.grad(loss, network.slope)[0] < -0.01


def test_each_noise_scale_of_the_geometric_sequence_is_trained_alike() -> None:
    """Kills: the strongest or the weakest noise left out of training, or another spacing."""
    torch.manual_seed(0)
    model, seen = ncsn(sigma_max=8.0, sigma_min=0.5, noise_scales=5), list[Tensor]()
    model.network = nn.Module()  # type: ignore[assignment]
    model.network.forward = lambda x, t, y=None: seen.append(t) or torch.zeros_like(x)  # type: ignore[method-assign]
    model.loss(torch.zeros(20_000, 1, dtype=torch.float64))
    sigma, counts = model.path.sigma(seen[0]).unique(return_counts=True)
    geometric = 0.5 * 2.0 ** torch.arange(5, dtype=torch.float64)
    torch.testing.assert_close(sigma, geometric, rtol=1e-4, atol=0)  # the earliest time is 1e-5 and not 0
    assert (counts - 4000).abs().max() < 4 * (20_000 * 0.2 * 0.8) ** 0.5  # standard errors


def test_loss_is_half_untrained_and_zero_with_the_answer() -> None:
    torch.manual_seed(0)
    model, x = ncsn(), torch.randn(20_000, 1, dtype=torch.float64)
    assert model.loss(x).mean().item() == pytest.approx(0.5, abs=4 * 0.5 * (2 / 20_000) ** 0.5)
    model.network = Knowing(model, x)  # type: ignore[assignment]
    assert model.loss(x).max() < 1e-12


def test_score_is_the_perturbed_densitys() -> None:
    model = ncsn()
    model.network = Linear(model)  # type: ignore[assignment]
    x, t = torch.randn(3, 1, dtype=torch.float64).requires_grad_(), torch.tensor([0.01, 0.4, 1.0], dtype=torch.float64)
    std = (S**2 + model.path.sigma(t) ** 2).sqrt()[:, None]
    (expected,) = torch.autograd.grad(torch.distributions.Normal(M, std).log_prob(x).sum(), x)
    torch.testing.assert_close(model.score(x, t), expected)


def test_samples_follow_the_data() -> None:
    model = ncsn(langevin_steps=20, sigma_min=0.1)
    model.network = Linear(model)  # type: ignore[assignment]
    x = model.sample(4000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * S / 4000**0.5)
    assert x.std().item() == pytest.approx(S, rel=0.06)  # 4 standard errors, and 1 % for the steps


def test_density_follows_the_path_to_the_strongest_noise() -> None:
    """The ODE stretches x - M by the growth of (S² + sigma²)^(1/2), to a prior of sigma_max around 0."""
    model = ncsn(sigma_max=2.0, sigma_min=0.1)
    model.network = Linear(model)  # type: ignore[assignment]
    x = torch.tensor([[-1.0], [0.2], [1.4]], dtype=torch.float64)
    stretched = ((S**2 + 2.0**2) / (S**2 + 0.1**2)) ** 0.5
    prior = torch.distributions.Normal(0.0, torch.tensor(2.0, dtype=torch.float64))
    expected = prior.log_prob(M + stretched * (x - M))[:, 0] + torch.tensor(stretched).log()
    torch.testing.assert_close(model.log_prob_estimate(x), expected, rtol=0, atol=2e-3)


def test_last_step_denoises() -> None:
    """x + sigma² s(x) is E[x_0 | x_t] (Tweedie): it takes the last level's noise out of a point mass."""
    model = ncsn(langevin_steps=5)
    model.network = Knowing(model, torch.full((50, 1), 0.25, dtype=torch.float64))  # type: ignore[assignment]
    *_, before, last = model.trajectory(50, seed=0)
    assert (before.x - 0.25).std() > 0.5 * model.config.sigma_min
    torch.testing.assert_close(last.x, torch.full_like(last.x, 0.25))
    assert (last.sampling_step, last.sampling_steps) == (20, 20)


def test_steps_are_three_times_the_papers() -> None:
    """Its epsilon = 2e-5 at sigma_L = 0.01; the weakest level is sampled from t = 1e-5 on."""
    model = ncsn()
    assert model.config.step_size == pytest.approx(3 * 2e-5 / 0.01**2)
    first = model.path.sigma(torch.tensor(model.t_min, dtype=torch.float64)).item()
    assert first == pytest.approx(model.config.sigma_min, rel=1e-4)


def test_levels_out_of_order_are_refused() -> None:
    with pytest.raises(BadInput, match="sigma_min must be below"):
        ncsn(sigma_min=2.0, sigma_max=1.0)
