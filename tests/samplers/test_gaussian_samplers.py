"""Samplers where the best denoiser is known: data N(m, s²), and every step affine in the state and the noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight
from dgm.samplers.ancestral import ancestral
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.ddim import ddim
from dgm.samplers.dpm_solver_pp import sde_dpm_solver_pp
from dgm.samplers.probability_flow import adaptive, probability_flow
from dgm.samplers.reverse_sde import euler_maruyama

from .gaussian import PATHS, certain, float64, flowed, law, marginal, optimal, order, path_name


def affine(step: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float, float]:
    """(a, b, c) of the map a x + b z + c."""
    c, ax, bz = (step(float64(x), float64(z)).item() for x, z in ((0, 0), (1, 0), (0, 1)))
    return ax - c, bz - c, c


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_ancestral_step_draws_from_bayes_posterior(path: GaussianPath) -> None:
    times = float64(0.7, 0.4, 0.1)
    t, s = times[:2]
    x_0 = 1.3
    a, b, c = affine(lambda x, z: next(ancestral(certain(x_0, path), path, x, times, lambda: z)))
    covariance = path.alpha(t) / path.alpha(s) * path.sigma(s) ** 2
    assert a == pytest.approx((covariance / path.sigma(t) ** 2).item())
    assert b**2 == pytest.approx((path.sigma(s) ** 2 - covariance**2 / path.sigma(t) ** 2).item())
    assert c == pytest.approx((path.alpha(s) * x_0 - a * path.alpha(t) * x_0).item())


def test_variances_of_an_ancestral_step() -> None:
    """The forward transition's where asked, between both on a log scale where learnt."""
    path, times = CosineVP(), float64(0.7, 0.4, 0.1)
    t, s = times[:2]

    def std(learnt: float | None, **options: str) -> float:
        def denoise(x: Tensor, t: Tensor):  # type: ignore[no-untyped-def]
            return certain(1.3, path)(x, t)._replace(variance=None if learnt is None else torch.full_like(x, learnt))

        return affine(lambda x, z: next(ancestral(denoise, path, x, times, lambda: z, **options)))[1]  # type: ignore[arg-type]

    forward = path.transition(s, t)[1].sqrt().item()
    posterior = forward * (path.sigma(s) / path.sigma(t)).item()
    assert std(None) == pytest.approx(posterior)
    assert std(None, variance="forward") == pytest.approx(forward)
    assert std(0.0) == pytest.approx(posterior)
    assert std(1.0) == pytest.approx(forward)
    assert std(0.25) == pytest.approx(posterior**0.75 * forward**0.25)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_marginals_of_the_path_whatever_eta(eta: float) -> None:
    """Equation 7 of the paper was chosen so: x_t ~ q(x_t | x_0) makes x_s ~ q(x_s | x_0)."""
    path, times, x_0 = CosineVP(), float64(0.8, 0.5, 0.1), -0.7
    a, b, c = affine(lambda x, z: next(ddim(certain(x_0, path), path, x, times, lambda: z, eta=eta)))
    t, s = times[:2]
    assert a**2 * path.sigma(t) ** 2 + b**2 == pytest.approx(path.sigma(s).item() ** 2)
    assert a * path.alpha(t) * x_0 + c == pytest.approx(path.alpha(s).item() * x_0)
    left = path.sigma(t) ** 2 - (path.alpha(t) / path.alpha(s) * path.sigma(s)) ** 2  # equation 16, in these letters
    assert b == pytest.approx(eta * (path.sigma(s) / path.sigma(t) * left.sqrt()).item())


def test_ddim_with_eta_one_is_ancestral() -> None:
    path, times = LinearVP(), torch.linspace(1, 0, 8, dtype=torch.float64)
    start, draws = torch.randn(5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    one = ancestral(optimal(path), path, start, times, iter(draws).__next__)
    other = ddim(optimal(path), path, start, times, iter(draws).__next__, eta=1.0)
    for mine, theirs in itertools.zip_longest(one, other):
        torch.testing.assert_close(mine, theirs)


def test_ddim_says_that_it_needs_noise() -> None:
    with pytest.raises(BadInput, match="needs a source of noise"):
        next(ddim(optimal(LinearVP()), LinearVP(), float64(0.0), float64(1.0, 0.0), eta=0.5))


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_last_step_adds_no_noise_and_lands_on_the_prediction(path: GaussianPath) -> None:
    times = float64(0.5, 0.0)
    for solve in (ancestral, ddim, partial(ddim, eta=0.7), sde_dpm_solver_pp, euler_maruyama, probability_flow):
        (x,) = solve(certain(0.25, path), path, float64(9.0), times, lambda: float64(math.nan))
        torch.testing.assert_close(x, float64(0.25))


def test_ddim_has_order_one() -> None:
    path, start = CosineVP(), float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = torch.linspace(0.95, 0.05, steps + 1, dtype=torch.float64)
        *_, x = ddim(optimal(path), path, start, times)
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("method", "expected"), [("euler", 1), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize(("first", "last"), [(0.95, 0.05), (0.05, 0.95)])
def test_runge_kutta_has_its_order_on_the_probability_flow(
    method: str, expected: int, first: float, last: float
) -> None:
    path, start = CosineVP(), float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = torch.linspace(first, last, steps + 1, dtype=torch.float64)
        *_, x = probability_flow(optimal(path), path, start, times, method=method)  # type: ignore[arg-type]
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("path", [CosineVP(), LinearVE(80.0), Straight()], ids=path_name)
def test_probability_flow_ends_with_the_prediction_at_the_last_noise(path: GaussianPath) -> None:
    """x_0 of the state before it, at the time before it: the network is never asked at sigma = 0."""
    times, start = torch.linspace(0.9, 0, 11, dtype=torch.float64), float64(-1.5, 0.2, 2.0)
    *_, before, last = probability_flow(optimal(path), path, start, times, method="rk4")
    torch.testing.assert_close(last, optimal(path)(before, times[-2]).x_0)
    exact = flowed(path, start, times[0], times[-2])
    torch.testing.assert_close(before, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_adaptive_follows_the_flow_within_its_tolerance(path: GaussianPath) -> None:
    times, start = float64(1.0, 0.5, 1e-3, 0.0), float64(-1.5, 0.2, 2.0) * path.sigma(float64(1.0))

    def errors(tolerance: float) -> tuple[int, float]:
        *states, before, last = adaptive(optimal(path), path, start, times, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(last, optimal(path)(before, times[2]).x_0)
        return len(states), (before - flowed(path, start, times[0], times[2])).abs().max().item()

    (few, rough), (many, fine) = errors(1e-4), errors(1e-9)
    assert rough < 3e-3  # error made early grows little on these flows, which contract
    assert fine < 1e-7
    assert few < many


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_annealed_langevin_stays_near_the_law_of_each_level(path: GaussianPath) -> None:
    """Within the steps' own bias and what x_t cannot forget in time: both vanish at no rate that a test could use."""
    times = path.time_of(torch.linspace(-4, 4, 200, dtype=torch.float64))
    mean, std = law(annealed_langevin, path, times, langevin_steps=5, step_size=0.6)
    expected_mean, expected_std = marginal(path, times[-1])
    assert mean == pytest.approx(expected_mean, abs=0.01)
    assert std == pytest.approx(expected_std, rel=0.02)


def test_annealed_langevin_denoises_at_the_end() -> None:
    """With no noise drawn: one step up the score at each time, a move by alpha between two, then x_0 as predicted from
    the last of them.
    """
    path, (t, s, end), x = CosineVP(), float64(0.7, 0.3, 0.0), float64(1.0)
    steps = {"langevin_steps": 1, "step_size": 0.6}
    between, last = annealed_langevin(optimal(path), path, x, torch.stack([t, s, end]), lambda: float64(0.0), **steps)

    def stepped(x: Tensor, t: Tensor) -> Tensor:
        return x - 0.3 * path.sigma(t) * optimal(path)(x, t).eps

    moved = path.alpha(s) / path.alpha(t) * stepped(x, t)
    torch.testing.assert_close(between, moved)
    torch.testing.assert_close(last, optimal(path)(stepped(moved, s), s).x_0)


def test_samplers_yield_a_state_a_step() -> None:
    path, times = CosineVP(), torch.linspace(1, 0, 6, dtype=torch.float64)
    for solve in (ancestral, ddim, probability_flow, annealed_langevin):
        assert len(list(solve(optimal(path), path, float64(1.0), times, lambda: float64(0.0)))) == 5
