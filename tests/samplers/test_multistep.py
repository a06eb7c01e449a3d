"""DPM-Solver++ and UniPC: their orders, infinite lambda at both ends, and another implementation's numbers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP, Straight, VarianceExploding
from dgm.processes.parameterisation import Prediction
from dgm.samplers.dpm_solver_pp import dpm_solver_pp, sde_dpm_solver_pp
from dgm.samplers.unipc import unipc

from .gaussian import Solve, float64, flowed, law, marginal, optimal, order, path_name

CASES = [
    (dpm_solver_pp, 2),
    (partial(unipc, order=1), 2),
    (partial(unipc, order=2), 3),
    (partial(unipc, order=3), 4),
]
each_path = pytest.mark.parametrize(
    "path", [LinearVP(), CosineVP(), VarianceExploding(0.01, 50.0), Straight()], ids=path_name
)
each_case = pytest.mark.parametrize(("solve", "expected"), CASES, ids=["2m", "unipc1", "unipc2", "unipc3"])


def in_lambda(path: GaussianPath, steps: int) -> Tensor:
    """From -2 to 2 in strides of which every other is twice as long."""
    strides = torch.tensor([0.0] + [1.0, 2.0] * (steps // 2), dtype=torch.float64)
    return path.time_of(-2 + 4 * strides.cumsum(0) / strides.sum())


@each_path
@each_case
def test_order_on_the_ode(solve: Solve, expected: int, path: GaussianPath) -> None:
    start = float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = in_lambda(path, steps)
        *_, x = solve(optimal(path), path, start, times)
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error, 64) == pytest.approx(expected, abs=0.15)


@each_case
def test_order_from_where_there_is_no_data(solve: Solve, expected: int) -> None:
    """From alpha = 0 in equal strides of t, where the first strides of lambda are long however many there are."""
    path, start = Straight(), float64(-1.5, 0.2, 2.0)

    def error(steps: int) -> float:
        times = torch.linspace(1, 0.05, steps + 1, dtype=torch.float64)
        *_, x = solve(optimal(path), path, start, times)
        return (x - flowed(path, start, times[0], times[-1])).abs().max().item()

    assert order(error, 64) == pytest.approx(expected, abs=0.2)


@each_path
def test_sde_has_weak_order_two(path: GaussianPath) -> None:
    def error(steps: int) -> float:
        times = in_lambda(path, steps)
        mean, std = law(sde_dpm_solver_pp, path, times)
        expected_mean, expected_std = marginal(path, times[-1])
        assert mean == pytest.approx(expected_mean, abs=1e-9)
        return abs(std - expected_std)

    assert order(error, 64) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("solve", [dpm_solver_pp, sde_dpm_solver_pp, *(case for case, _ in CASES[1:])])
def test_both_ends_are_reached_by_limits(solve: Solve, steps: int) -> None:
    path, times = Straight(), torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    states = list(solve(optimal(path), path, float64(0.5, -0.5), times, lambda: float64(0.0, 0.0)))
    assert len(states) == steps
    assert all(state.isfinite().all() for state in states)
    if solve is dpm_solver_pp and steps > 1:
        torch.testing.assert_close(states[-1], optimal(path)(states[-2], times[-2]).x_0)


def test_sde_forgets_all_where_there_is_no_data() -> None:
    """From alpha = 0 a step draws q(x_s | x_0)."""
    path, times = Straight(), float64(1.0, 0.7, 0.5)
    x = next(sde_dpm_solver_pp(optimal(path), path, float64(0.9), times, lambda: float64(2.0)))
    x_0 = optimal(path)(float64(0.9), times[0]).x_0
    torch.testing.assert_close(x, 0.3 * x_0 + 0.7 * 2.0)


@pytest.mark.parametrize("with_noise", [False, True], ids=["ode", "sde"])
def test_what_runs_along_a_line_is_taken_at_the_middle_of_a_step(with_noise: bool) -> None:
    """Of lambda, in strides of any length: errors of r would cancel over many steps, and leave the order as it is."""
    path, half_log_snr = CosineVP(), float64(-1.5, -0.7, 0.8, 1.0)
    times = path.time_of(half_log_snr)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return Prediction(torch.full_like(x, 0.3) - 0.2 * path.half_log_snr(t), x)

    solve = sde_dpm_solver_pp if with_noise else dpm_solver_pp
    states = list(solve(denoise, path, float64(1.0), times, lambda: float64(0.0)))
    for k in (1, 2):
        h = (half_log_snr[k + 1] - half_log_snr[k]) * (2 if with_noise else 1)
        kept = path.alpha(times[k + 1]) / path.alpha(times[k]) * (-h).exp()  # sigma_s / sigma_t, with noise e^-h of it
        added = states[k] - kept * states[k - 1]
        middle = (half_log_snr[k] + half_log_snr[k + 1]) / 2
        torch.testing.assert_close(added, path.alpha(times[k + 1]) * (1 - (-h).exp()) * (0.3 - 0.2 * middle)[None])


def tosses(path: GaussianPath, x: Tensor, t: Tensor) -> Prediction:
    """Data that is 1 or -1."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    x_0 = torch.tanh(alpha * x / sigma**2)
    return Prediction(x_0, (x - alpha * x_0) / sigma)


# After 6 steps from lambda = -2.5 to 1.5, computed once by DPMSolverMultistepScheduler and UniPCMultistepScheduler
# (midpoint; bh2; prediction of x_0) of diffusers 0.42.0. Its DPM-Solver++ runs in float32.
DIFFUSERS = [
    (dpm_solver_pp, (-1.1607936, 0.8596116, 1.0779511), 2e-7),
    (sde_dpm_solver_pp, (-1.5174288, 0.4389658, 1.5165462), 2e-7),
    (partial(unipc, order=1), (-1.1263684112565469, 0.7758648884634745, 1.0348857022077327), 1e-12),
    (partial(unipc, order=2), (-1.1420630913684786, 0.8978211499928644, 1.0615633326813487), 1e-12),
    (partial(unipc, order=3), (-1.0860727293371877, 0.930959411150202, 0.9942778224488434), 1e-12),
]


@pytest.mark.parametrize(
    ("solve", "theirs", "tolerance"), DIFFUSERS, ids=["2m", "sde_2m", "unipc1", "unipc2", "unipc3"]
)
def test_steps_are_diffusers(solve: Solve, theirs: tuple[float, ...], tolerance: float) -> None:
    path, start = CosineVP(), float64(-1.2, 0.3, 0.9)
    draws = iter([float64(-1, 0, 1) * (1 + k / 10) for k in range(6)])
    times = path.time_of(torch.linspace(-2.5, 1.5, 7, dtype=torch.float64))
    *_, x = solve(partial(tosses, path), path, start, times, draws.__next__)
    torch.testing.assert_close(x, float64(*theirs), rtol=0, atol=tolerance)


def test_orders_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadInput, match="must be 1, 2 or 3"):
        next(unipc(optimal(CosineVP()), CosineVP(), float64(0.0), float64(1.0, 0.0), order=4))
