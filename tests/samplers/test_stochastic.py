"""The reverse SDE, predictor-corrector and EDM's churn, by the exact law of what they make of Gaussian data."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, VarianceExploding
from dgm.samplers.ancestral import ancestral
from dgm.samplers.edm import edm
from dgm.samplers.predictor_corrector import predictor_corrector
from dgm.samplers.probability_flow import probability_flow
from dgm.samplers.reverse_sde import euler_maruyama
from dgm.samplers.times import times as spaced

from .gaussian import S, Solve, certain, float64, flowed, law, marginal, optimal, order, path_name

each_path = pytest.mark.parametrize(
    "path", [LinearVP(), CosineVP(), VarianceExploding(0.01, 50.0), Straight()], ids=path_name
)


def distance(solve: Solve, path: GaussianPath, steps: int) -> float:
    """From the law at lambda = 2, where that at lambda = -2 was exact."""
    times = path.time_of(torch.linspace(-2, 2, steps + 1, dtype=torch.float64))
    (mean, std), (expected_mean, expected_std) = law(solve, path, times), marginal(path, times[-1])
    return abs(mean - expected_mean) + abs(std - expected_std)


@each_path
@pytest.mark.parametrize(
    ("solve", "expected"),
    [
        (ancestral, 1),
        (euler_maruyama, 1),
        (partial(predictor_corrector, corrections=0), 1),
        (partial(edm, s_churn=4.0, s_noise=1.0), 2),
    ],
    ids=["ancestral", "euler_maruyama", "predictor", "edm"],
)
def test_weak_order(solve: Solve, expected: int, path: GaussianPath) -> None:
    assert order(lambda steps: distance(solve, path, steps), 256) == pytest.approx(expected, abs=0.15)


@each_path
def test_edm_without_churn_has_order_two_on_the_ode(path: GaussianPath) -> None:
    start = float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = path.time_of(torch.linspace(-2, 2, steps + 1, dtype=torch.float64))
        *_, x = edm(optimal(path), path, start, times, s_churn=0.0)
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error, 64) == pytest.approx(2, abs=0.1)


def test_edm_without_churn_is_heun_where_time_is_sigma() -> None:
    """Algorithm 1, the last step being Euler's."""
    path, start = LinearVE(80.0), 80 * float64(-1.5, 0.2, 2.0)
    times = spaced(path, 18, "karras", t_min=0.002 / 80)
    for mine, theirs in zip(
        edm(optimal(path), path, start, times, s_churn=0.0),
        probability_flow(optimal(path), path, start, times, method="heun"),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@each_path
def test_edm_without_a_source_of_noise_puts_none_back(path: GaussianPath) -> None:
    """Kills: a network asked at a later time than the state's."""
    start, times = float64(-1.5, 0.2, 2.0), torch.linspace(0.9, 0.0, 9, dtype=torch.float64)
    plain = edm(optimal(path), path, start, times, lambda: float64(math.nan), s_churn=0.0)
    for mine, theirs in zip(edm(optimal(path), path, start, times), plain, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_edm_churns_as_in_algorithm_two() -> None:
    """Line by line for one step of a path whose time is sigma / 80, with S_churn = 3 of 10 steps."""
    path, x, z = LinearVE(80.0), float64(-3.0, 1.0), float64(0.7, -0.4)
    times = torch.linspace(0.5, 0.0, 11, dtype=torch.float64)
    sigma, ahead = 80 * times[0], 80 * times[1]
    x_1 = next(edm(optimal(path), path, x, times, lambda: z, s_churn=3.0, s_noise=1.1))
    sigma_hat = sigma * 1.3
    x_hat = x + 1.1 * (sigma_hat**2 - sigma**2).sqrt() * z
    d = (x_hat - optimal(path)(x_hat, sigma_hat / 80).x_0) / sigma_hat
    euler = x_hat + (ahead - sigma_hat) * d
    d_ahead = (euler - optimal(path)(euler, ahead / 80).x_0) / ahead
    torch.testing.assert_close(x_1, x_hat + (ahead - sigma_hat) * (d + d_ahead) / 2)


def test_edm_doubles_a_variance_at_most() -> None:
    """gamma is at most sqrt(2) - 1, whatever the churn."""
    path, times = LinearVE(80.0), torch.linspace(0.5, 0.1, 11, dtype=torch.float64)
    most = law(edm, path, times, s_churn=10 * (2**0.5 - 1))
    assert law(edm, path, times, s_churn=100.0) == most
    assert law(edm, path, times, s_churn=4.0) != most


@pytest.mark.parametrize(("options", "churned"), [({}, 4), ({"s_tmin": 9.0}, 2), ({"s_tmax": 30.0}, 3)])
def test_edm_churns_between_its_limits_and_never_beyond_the_path(options: dict[str, float], churned: int) -> None:
    """Levels 80, 50, 20, 8, 2, 0.02: the first cannot grow, and 50 to 0.05 is the default."""
    path, draws = LinearVE(80.0), []
    times = float64(80, 50, 20, 8, 2, 0.02, 0) / 80

    def noise() -> torch.Tensor:
        draws.append(1)
        return float64(0.0)

    list(edm(optimal(path), path, float64(1.0), times, noise, **options))
    assert len(draws) == churned


@pytest.mark.parametrize(
    ("path", "keeps"),
    [
        (VarianceExploding(0.01, 50.0), lambda beta: 1.0),
        (LinearVP(), lambda beta: 2 - (1 - beta).sqrt()),
    ],
    ids=["ve", "vp"],
)
def test_predictor_and_corrector_are_song_et_als(path: GaussianPath, keeps: Callable[[Tensor], Tensor | float]) -> None:
    """Algorithms 2 and 4 of VE, 3 and 5 of VP, line by line; the paper's norms are 1 and 1 / sigma a dimension here."""
    times, r, x = float64(0.7, 0.4, 0.1), 0.2, float64(0.3)
    draws = [float64(0.5), float64(-1.0), float64(2.0)]
    mine = next(predictor_corrector(optimal(path), path, x, times, iter(draws).__next__, snr=r, corrections=2))
    sigma_t, sigma_s = path.sigma(times[:2])
    exploding = isinstance(path, VarianceExploding)
    beta = sigma_t**2 - sigma_s**2 if exploding else 1 - (path.alpha(times[0]) / path.alpha(times[1])) ** 2
    x = keeps(beta) * x + beta * -optimal(path)(x, times[0]).eps / sigma_t + beta.sqrt() * draws[0]
    alpha_i = 1 if exploding else (path.alpha(times[1]) / path.alpha(times[2])) ** 2  # 1 - beta_i
    for z in draws[1:]:
        epsilon = 2 * alpha_i * (r * 1 / (1 / sigma_s)) ** 2
        x = x + epsilon * -optimal(path)(x, times[1]).eps / sigma_s + (2 * epsilon).sqrt() * z
    torch.testing.assert_close(mine, x)


@each_path
def test_correctors_bring_the_law_nearer(path: GaussianPath) -> None:
    """With steps so long that the predictor's variance is off; not below the corrector's own bias."""
    without, one, four = (distance(partial(predictor_corrector, corrections=c, snr=0.1), path, 20) for c in (0, 1, 4))
    assert without > 1.02 * one > 1.1 * four


@each_path
@pytest.mark.parametrize("solve", [euler_maruyama, predictor_corrector, edm])
def test_last_step_is_the_prediction(solve: Solve, path: GaussianPath) -> None:
    times, asked = float64(0.4, 0.2, 0.0), []

    def denoise(x, t):  # type: ignore[no-untyped-def]
        asked.append((x, t))
        return optimal(path)(x, t)

    *_, last = solve(denoise, path, float64(0.3), times, lambda: float64(0.0))
    torch.testing.assert_close(last, optimal(path)(*asked[-1]).x_0)
    assert asked[-1][1] >= 0.2


@pytest.mark.parametrize(
    "solve", [euler_maruyama, partial(predictor_corrector, corrections=0), partial(edm, s_tmin=math.inf)]
)
def test_first_step_from_no_data_draws_about_the_prediction(solve: Solve) -> None:
    """Where alpha is 0, x_0 as predicted tells all that is known; the SDE forgets the state, the ODE carries it on."""
    path, times, x, z = Straight(), float64(1.0, 0.7, 0.5), float64(0.9), float64(-0.4)
    state = next(solve(certain(1.3, path), path, x, times, lambda: z))
    kept = x if isinstance(solve, partial) and solve.func is edm else z
    torch.testing.assert_close(state, 0.3 * 1.3 + 0.7 * kept)


@each_path
def test_euler_maruyama_keeps_the_law_of_pure_noise(path: GaussianPath) -> None:
    """Of many short steps between two late times, where data hardly counts."""
    times = path.time_of(torch.linspace(-3.5, -3, 200, dtype=torch.float64))
    mean, std = law(euler_maruyama, path, times)
    expected_mean, expected_std = marginal(path, times[-1])
    assert mean == pytest.approx(expected_mean, abs=1e-3)
    assert std == pytest.approx(expected_std, rel=5e-3)
    assert expected_std > 2 * S or expected_std < 1.1
