"""Samplers where the best denoiser is known: data N(m, s²), and every step affine in the state and the noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP, Straight
from dgm.processes.parameterisation import Endpoints, predict
from dgm.samplers.ancestral import ancestral
from dgm.samplers.ddim import ddim
from dgm.samplers.ode import integrate

M, S = 0.3, 0.6


def optimal(path: GaussianPath) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x_0 | x_t] for x_0 ~ N(M, S²)."""

    def predict_x_0(x: Tensor, t: Tensor) -> Tensor:
        alpha, var = path.alpha(t), path.alpha(t) ** 2 * S**2 + path.sigma(t) ** 2
        return M + alpha * S**2 / var * (x - alpha * M)

    return predict_x_0


def flowed(path: GaussianPath, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The probability-flow ODE's exact solution: it keeps each point's standard score."""
    std = {time: (path.alpha(time) ** 2 * S**2 + path.sigma(time) ** 2).sqrt() for time in (s, t)}
    return path.alpha(s) * M + std[s] / std[t] * (x - path.alpha(t) * M)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def affine(step: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float, float]:
    """(a, b, c) of the map a x + b z + c."""
    c, ax, bz = (step(float64(x), float64(z)).item() for x, z in ((0, 0), (1, 0), (0, 1)))
    return ax - c, bz - c, c


@pytest.mark.parametrize("path", [LinearVP(), CosineVP(), Straight()], ids=lambda path: type(path).__name__)
def test_ancestral_step_draws_from_bayes_posterior(path: GaussianPath) -> None:
    times = float64(0.7, 0.4, 0.1)
    t, s = times[:2]
    x_0 = 1.3
    a, b, c = affine(lambda x, z: next(ancestral(lambda *_: float64(x_0), path, x, times, lambda: z)))
    covariance = path.alpha(t) / path.alpha(s) * path.sigma(s) ** 2
    assert a == pytest.approx((covariance / path.sigma(t) ** 2).item())
    assert b**2 == pytest.approx((path.sigma(s) ** 2 - covariance**2 / path.sigma(t) ** 2).item())
    assert c == pytest.approx((path.alpha(s) * x_0 - a * path.alpha(t) * x_0).item())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_marginals_of_the_path_whatever_eta(eta: float) -> None:
    """Equation 7 of the paper was chosen so: x_t ~ q(x_t | x_0) makes x_s ~ q(x_s | x_0)."""
    path, times, x_0 = CosineVP(), float64(0.8, 0.5, 0.1), -0.7
    a, b, c = affine(lambda x, z: next(ddim(lambda *_: float64(x_0), path, x, times, lambda: z, eta=eta)))
    t, s = times[:2]
    assert a**2 * path.sigma(t) ** 2 + b**2 == pytest.approx(path.sigma(s).item() ** 2)
    assert a * path.alpha(t) * x_0 + c == pytest.approx(path.alpha(s).item() * x_0)
    assert (b != 0) == (eta != 0)


def test_ddim_with_eta_one_is_ancestral() -> None:
    path, times = LinearVP(), torch.linspace(1, 0, 8, dtype=torch.float64)
    start, draws = torch.randn(5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    one = ancestral(optimal(path), path, start, times, iter(draws).__next__)
    other = ddim(optimal(path), path, start, times, iter(draws).__next__, eta=1.0)
    for mine, theirs in itertools.zip_longest(one, other):
        torch.testing.assert_close(mine, theirs)


def test_last_step_adds_no_noise_and_lands_on_the_prediction() -> None:
    path, times = LinearVP(), float64(0.5, 0.0)
    for sampler in (ancestral, ddim):
        (x,) = sampler(lambda *_: float64(0.25), path, float64(9.0), times, lambda: float64(math.nan))
        torch.testing.assert_close(x, float64(0.25))


def order(error: Callable[[int], float]) -> float:
    return math.log2(error(32) / error(64))


def test_ddim_has_order_one() -> None:
    path, start = CosineVP(), float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = torch.linspace(0.95, 0.05, steps + 1, dtype=torch.float64)
        *_, x = ddim(optimal(path), path, start, times)
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize(("first", "last"), [(0.95, 0.05), (0.05, 0.95)])
def test_ode_solver_has_its_order_on_the_probability_flow(
    solver: str, expected: int, first: float, last: float
) -> None:
    path, start = CosineVP(), float64(-1.5, 0.2, 2.0)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        x_0 = optimal(path)(x, t)
        return predict("velocity", path, Endpoints(x_0, (x - path.alpha(t) * x_0) / path.sigma(t)), t)

    def error(steps: int) -> float:
        times = torch.linspace(first, last, steps + 1, dtype=torch.float64)
        *_, x = integrate(velocity, start, times, solver)  # type: ignore[arg-type]
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error) == pytest.approx(expected, abs=0.15)


def test_samplers_yield_a_state_a_step() -> None:
    path, times = CosineVP(), torch.linspace(1, 0, 6, dtype=torch.float64)
    assert len(list(ddim(optimal(path), path, float64(1.0), times))) == 5
    assert len(list(integrate(lambda x, t: x, float64(1.0), times, "euler"))) == 5
