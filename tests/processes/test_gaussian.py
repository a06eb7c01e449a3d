"""Gaussian paths against autodiff, the papers' own schedules, and Bayes' rule on a 2 x 2 covariance."""

from __future__ import annotations

import math

import pytest
import torch

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, SubVP, VarianceExploding

PATHS = [LinearVP(), CosineVP(), SubVP(), VarianceExploding(0.01, 50.0), LinearVE(80.0), Straight()]
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
    path, start = CosineVP(), math.pi / 2 * 0.008 / 1.008
    theta = start + T * (math.pi / 2 - 2 * start)
    torch.testing.assert_close(path.alpha(T), theta.cos() / math.cos(start))
    paper = ((T + 0.008) / 1.008 * math.pi / 2).cos() / math.cos(start)
    torch.testing.assert_close(path.alpha(T), paper, atol=1.3e-2, rtol=0)


def test_exploding_levels_are_geometric_after_a_leap_from_none() -> None:
    t = torch.tensor([0.0, 1e-12, 1 / 3, 2 / 3, 1.0], dtype=torch.float64)
    sigma = VarianceExploding(0.01, 10.0).sigma(t)
    torch.testing.assert_close(sigma, torch.tensor([0.0, 0.01, 0.1, 1.0, 10.0], dtype=torch.float64))


@each_path
def test_there_is_no_noise_at_the_start(path: GaussianPath) -> None:
    zero = torch.tensor(0.0, dtype=torch.float64)
    assert path.sigma(zero) == 0
    assert path.alpha(zero) == 1


def test_sub_vp_is_song_et_als() -> None:
    """arXiv:2011.13456, equation 29: the mean of VP, and 1 - exp(-int beta) for the deviation."""
    integral = 0.1 * T + 19.9 * T**2 / 2
    torch.testing.assert_close(SubVP().alpha(T), (-integral / 2).exp())
    torch.testing.assert_close(SubVP().sigma(T), 1 - (-integral).exp())


def test_linear_ve_is_karras_et_als() -> None:
    """Table 1: sigma(t) = t, s(t) = 1, of a time that is sigma."""
    torch.testing.assert_close(LinearVE(80.0).sigma(T), 80 * T)
    torch.testing.assert_close(LinearVE(80.0).alpha(T), torch.ones_like(T))


@each_path
def test_half_log_snr_and_snr(path: GaussianPath) -> None:
    torch.testing.assert_close(path.half_log_snr(T), path.snr(T).log() / 2)
    assert (path.half_log_snr(T).diff() < 0).all()


@each_path
def test_time_of_inverts_half_log_snr(path: GaussianPath) -> None:
    torch.testing.assert_close(path.time_of(path.half_log_snr(T)), T, rtol=1e-9, atol=1e-12)
    beyond = path.time_of(torch.tensor([-100.0, 100.0], dtype=torch.float64))
    torch.testing.assert_close(beyond, torch.tensor([1.0, 0.0], dtype=torch.float64))


@each_path
def test_rates_are_autodiffs(path: GaussianPath) -> None:
    """f = d log alpha / dt and g² = -2 sigma² d lambda / dt."""
    t = T.clone().requires_grad_()
    log_alpha, half_log_snr = path.alpha(t).log(), path.half_log_snr(t)
    slope = torch.autograd.grad(log_alpha.sum(), t, retain_graph=True)[0] if log_alpha.requires_grad else 0 * T
    (of_lambda,) = torch.autograd.grad(half_log_snr.sum(), t)
    f, g2 = path.rates(T)
    torch.testing.assert_close(f, slope)
    torch.testing.assert_close(g2, -2 * path.sigma(T) ** 2 * of_lambda)


@each_path
def test_a_short_transition_has_the_rates_of_the_sde(path: GaussianPath) -> None:
    """alpha_{t|s} = 1 + f (t - s) and sigma_{t|s}² = g² (t - s), up to squares of t - s. Kills: a least variance."""
    (f, g2), h = path.rates(T), 1e-5
    alpha, var = path.transition(T - h, T)
    torch.testing.assert_close((alpha - 1) / h, f, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(var / h, g2, rtol=1e-2, atol=1e-6)


def test_rates_are_those_of_song_et_als_sdes() -> None:
    """arXiv:2011.13456, equations 30-33 and 29: VE, VP and sub-VP."""
    beta = 0.1 + 19.9 * T
    ve, vp, sub_vp = VarianceExploding(0.01, 50.0), LinearVP(), SubVP()
    torch.testing.assert_close(ve.rates(T)[1], ve.sigma(T) ** 2 * 2 * math.log(50 / 0.01))
    for path, g2 in ((vp, beta), (sub_vp, beta * (1 - vp.alpha(T) ** 4))):
        torch.testing.assert_close(path.rates(T)[0], -beta / 2)
        torch.testing.assert_close(path.rates(T)[1], g2)


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
