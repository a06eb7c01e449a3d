"""EDM where the best denoiser is known: data N(m, s²)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dgm.models.diffusion import edm
from dgm.models.diffusion.edm import EDM
from dgm.processes.gaussian import over
from dgm.space import Space

M, S = 0.3, 0.6
PLANE = Space.continuous((2,))


class Optimal(nn.Module):
    """F such that D(x; sigma) is E[x_0 | x], undoing equation 7 of the paper in its own letters."""

    def __init__(self, sigma_data: float) -> None:
        super().__init__()
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        sigma, data = (4 * over(c_noise, x)).exp(), self.sigma_data
        x = x * (sigma**2 + data**2).sqrt()
        best = M + S**2 / (S**2 + sigma**2) * (x - M)
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2).sqrt()
        return (best - skip * x) / out


def model(space: Space = PLANE, **config: object) -> EDM:
    return EDM(space, EDM.Config(width=8, **config)).double()  # type: ignore[arg-type]


class Constant(nn.Module):
    """Says one number, and keeps what it was given."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        self.seen = x
        return torch.full_like(x, self.value)


@pytest.mark.parametrize("space", [PLANE, Space.continuous((2,), low=-1.0, high=1.0)], ids=["plane", "bounded"])
def test_the_network_sees_and_says_numbers_of_variance_one(space: Space) -> None:
    """Equations 117 and 131: on data of variance sigma_data², at every level. Kills: c_in or c_out without its root,
    c_out without sigma or without sigma_data.
    """
    mine = model(space)
    x_0 = mine.sigma_data * torch.randn(20_000, 2, dtype=torch.float64)
    for level in (0.01, 0.5, 30.0):
        sigma = torch.full((20_000,), level, dtype=torch.float64)
        x, said = x_0 + level * torch.randn_like(x_0), []
        for value in (0.0, 1.0):
            mine.network = network = Constant(value)  # type: ignore[assignment]
            said.append(mine.denoised(x, sigma))  # D is c_skip x, and c_out more
        assert network.seen.std().item() == pytest.approx(1, abs=0.02)
        target = (x_0 - said[0]) / (said[1] - said[0])  # what F should have said
        assert target.std().item() == pytest.approx(1, abs=0.02)
        assert (target * network.seen).mean().item() == pytest.approx(0, abs=0.02)  # c_skip: all that x tells is told


def test_constants_are_the_papers() -> None:
    """Table 1: sigma from 0.002 to 80, sigma_data of images 0.5; algorithm 1 in 18 steps for CIFAR-10."""
    grey, bounded = model(Space.levels((1, 8, 8), 17)), model(Space.continuous((2,), low=0.0, high=9.0))
    assert (grey.sigma_data, bounded.sigma_data, model().sigma_data) == (0.5, 0.5, 1.0)
    ends = grey.path.sigma(torch.tensor([grey.t_min, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.002, 80.0])
    assert grey.sampler.sampling_steps == 18


def test_training_noise_is_log_normal() -> None:
    """ln sigma ~ N(-1.2, 1.2²), table 1. Kills: P_mean and P_std of another sign or exchanged."""
    mine, seen = model(), list[Tensor]()
    mine.network = nn.Module()  # type: ignore[assignment]
    mine.network.forward = lambda x, c, y=None: seen.append(c) or torch.zeros_like(x)  # type: ignore[method-assign]
    torch.manual_seed(0)
    mine.loss(torch.zeros(20_000, 2, dtype=torch.float64))
    log_sigma = 4 * seen[0]  # c_noise = ln(sigma) / 4
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.04)  # 4 standard errors are 0.034 and 0.024
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.03)


def test_loss_is_one_untrained_on_data_of_the_stated_spread() -> None:
    """The weight undoes c_out². Kills: lambda inverted, or without its square."""
    for space in (PLANE, Space.continuous((2,), low=-1.0, high=1.0)):
        mine = model(space)
        x = mine.sigma_data * torch.randn(20_000, 2, dtype=torch.float64)
        assert mine.loss(x).mean().item() == pytest.approx(1, abs=0.03)  # 4 standard errors


def test_best_denoiser_makes_the_gradient_of_the_loss_zero() -> None:
    torch.manual_seed(0)
    mine, shift = model(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    best = Optimal(mine.sigma_data)
    mine.network = nn.Module()  # type: ignore[assignment]
    mine.network.forward = lambda x, c, y=None: best(x, c) + shift  # type: ignore[method-assign]
    draws = [
        torch.autograd.grad(mine.loss(M + S * torch.randn(5000, 2, dtype=torch.float64)).mean(), shift)[0]
        for _ in range(40)
    ]
    drawn = torch.stack(draws)
    assert drawn.mean().abs() < 4 * drawn.std() / 40**0.5


def test_predictions_and_density_are_the_gaussians() -> None:
    mine = model()
    mine.network = Optimal(mine.sigma_data)  # type: ignore[assignment]
    x, t = torch.randn(5, 2, dtype=torch.float64), torch.full((5,), 0.01, dtype=torch.float64)
    sigma = edm.SIGMA_MAX * 0.01
    torch.testing.assert_close(mine.predict(x, t).x_0, M + S**2 / (S**2 + sigma**2) * (x - M))
    expected = Normal(M, math.hypot(S, edm.SIGMA_MIN)).log_prob(x).sum(1)
    torch.testing.assert_close(mine.log_prob_estimate(x), expected, atol=2e-2, rtol=0)


def test_steps_are_the_papers() -> None:
    """Algorithm 1 with equation 5, written out as there, on the same noise."""
    mine = model(sampling_steps=6)
    mine.network = Optimal(mine.sigma_data)  # type: ignore[assignment]
    N, rho = 6, 7
    low, high = edm.SIGMA_MIN ** (1 / rho), edm.SIGMA_MAX ** (1 / rho)
    sigma = [(high + i / (N - 1) * (low - high)) ** rho for i in range(N)] + [0.0]
    from dgm.seeds import streams

    x = streams(3, 0).normal((2,)).double() * sigma[0]
    for i in range(N):
        D = M + S**2 / (S**2 + sigma[i] ** 2) * (x - M)
        d = (x - D) / sigma[i]
        ahead = x + (sigma[i + 1] - sigma[i]) * d
        if sigma[i + 1] > 0:
            d = d / 2 + (ahead - M - S**2 / (S**2 + sigma[i + 1] ** 2) * (ahead - M)) / sigma[i + 1] / 2
            ahead = x + (sigma[i + 1] - sigma[i]) * d
        x = ahead
    torch.testing.assert_close(mine.sample(3, seed=0), x, atol=1e-5, rtol=1e-5)
