"""Gaussian paths against autodiff, the papers' own schedules, and Bayes' rule on a 2 x 2 covariance."""

from __future__ import annotations

import math

import pytest
import torch

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP, Straight, VarianceExploding

PATHS = [LinearVP(), CosineVP(), VarianceExploding(0.01, 50.0), Straight()]
T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)

each_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


@each_path
@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_derivatives_are_autodiffs(path: GaussianPath, name: str) -> None:
    t = T.clone().requires_grad_()
    value = getattr(path, name)(t)
    slope = torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)
    torch.testing.assert_close(getattr(path, f"{name}_dot")(T), slope)


@pytest.mark.parametrize("path", [LinearVP(), CosineVP()], ids=lambda path: type(path).__name__)
def test_variance_is_preserved_to_the_last_digits(path: GaussianPath) -> None:
    t = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones(1001))
    assert path.sigma(t)[0] == 0
    exact = path.sigma(t.double())
    torch.testing.assert_close(path.sigma(t).double(), exact, rtol=1e-5, atol=0)  # float32 loses none at small t


def test_linear_schedule_is_ddpms() -> None:
    """alpha_bar of Ho et al.: the product of 1 - beta_i, beta from 1e-4 to 0.02. The logs agree up to O(1/T)."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log_alpha_bar = torch.log1p(-beta).cumsum(0)
    i = torch.arange(1, 1001, dtype=torch.float64)
    torch.testing.assert_close(2 * LinearVP().log_alpha(i / 1000), log_alpha_bar, rtol=0.01, atol=1e-3)


def test_cosine_schedule_is_a_ratio_of_cosines_that_ends_as_far_from_a_right_angle_as_it_starts() -> None:
    path, start = CosineVP(offset=0.008), math.pi / 2 * 0.008 / 1.008
    theta = start + T * (math.pi / 2 - 2 * start)
    torch.testing.assert_close(path.alpha(T), theta.cos() / math.cos(start))
    paper = ((T + 0.008) / 1.008 * math.pi / 2).cos() / math.cos(start)
    torch.testing.assert_close(path.alpha(T), paper, atol=1.3e-2, rtol=0)


def test_exploding_levels_are_geometric() -> None:
    sigma = VarianceExploding(0.01, 10.0).sigma(torch.linspace(0, 1, 4, dtype=torch.float64))
    torch.testing.assert_close(sigma, torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64))


def test_straight_path_is_straight() -> None:
    x_0, eps = torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 0.0]])
    torch.testing.assert_close(Straight().corrupt(x_0, eps, torch.tensor([0.25])), torch.tensor([[2.0, 1.5]]))


@each_path
def test_posterior_conditions_the_joint_of_two_times(path: GaussianPath) -> None:
    """x_s, x_t given x_0 have the covariance [[var_s, a var_s], [a var_s, var_t]] with a = alpha_t / alpha_s."""
    s, t = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    x_0, x_t = torch.tensor([[0.4]], dtype=torch.float64), torch.tensor([[-1.1]], dtype=torch.float64)
    (mu_s, std_s), (mu_t, std_t) = path.marginal(x_0, s), path.marginal(x_0, t)
    covariance = path.alpha(t) / path.alpha(s) * std_s**2
    mean, std = path.posterior(x_0, x_t, s, t)
    torch.testing.assert_close(mean, mu_s + covariance / std_t**2 * (x_t - mu_t))
    torch.testing.assert_close(std**2, std_s**2 - covariance**2 / std_t**2)


@each_path
def test_each_example_has_its_own_time(path: GaussianPath) -> None:
    x_0, eps, t = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.tensor([0.1, 0.5, 0.9])
    alone = [path.alpha(t[k]) * x_0[k] + path.sigma(t[k]) * eps[k] for k in range(3)]
    torch.testing.assert_close(path.corrupt(x_0, eps, t), torch.stack(alone))
