"""Spacings against the papers' formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, VarianceExploding
from dgm.samplers.times import SIGMA_MAX, SPACINGS, coefficients, times

from .gaussian import PATHS, float64, path_name


@pytest.mark.parametrize(
    ("path", "spacing", "t_min", "steps"),
    list(itertools.product(PATHS, SPACINGS, (0.0, 1e-3, 0.02), (1, 2, 7, 300))),
    ids=lambda value: path_name(value) if isinstance(value, GaussianPath) else str(value),
)
def test_times_fall_from_noise_to_zero(path: GaussianPath, spacing: str, t_min: float, steps: int) -> None:
    grid = times(path, steps, spacing, t_min=t_min)  # type: ignore[arg-type]
    assert grid.shape == (steps + 1,)
    assert (grid.diff() < 0).all()
    assert grid[-1] == 0
    assert grid[-2] >= t_min
    assert (path.sigma(grid[:-1]) > 0).all()
    most = min(SIGMA_MAX, (path.sigma(float64(1.0)) / path.alpha(float64(1.0))).item())
    assert grid[0] == 1 or (path.sigma(grid[0]) / path.alpha(grid[0])).item() == pytest.approx(most)


def test_uniform_and_quadratic_are_ddims() -> None:
    """Section D.2: tau_i = c i and c i², with tau_1 near 1 of 1000."""
    i = torch.arange(10, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(times(LinearVP(), 10, "uniform"), i / 10)
    torch.testing.assert_close(times(LinearVP(), 10, "quadratic"), (i / 10) ** 2)


def test_more_steps_than_the_network_has_times_for_are_taken_closer() -> None:
    grid = times(LinearVP(), 100, "uniform", t_min=0.05)
    torch.testing.assert_close(grid[:-1], torch.linspace(1, 0.05, 100, dtype=torch.float64))
    grid = times(LinearVP(), 100, "quadratic", t_min=0.04)
    torch.testing.assert_close(grid[:-1], torch.linspace(1, 0.2, 100, dtype=torch.float64) ** 2)
    assert times(LinearVP(), 5000)[-2].item() == pytest.approx(1e-3)


def test_karras_is_edms() -> None:
    """arXiv:2206.00364, equation 5: sigma_i = (80^(1/7) + i / (N - 1) (0.002^(1/7) - 80^(1/7)))^7, where t is sigma."""
    n = 18
    expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
    grid = times(LinearVE(80.0), n, "karras", t_min=0.002 / 80) * 80
    torch.testing.assert_close(grid, float64(*expected, 0.0))


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_log_snr_has_equal_strides_of_lambda(path: GaussianPath) -> None:
    strides = path.half_log_snr(times(path, 20, "log_snr")[:-1]).diff()
    torch.testing.assert_close(strides, strides[:1].expand(19), rtol=1e-6, atol=0)
    assert strides[0] > 0


def test_ends_of_what_can_be_told_apart() -> None:
    grid = times(Straight(), 5, "log_snr", t_min=0.0)
    ratio = Straight().sigma(grid) / Straight().alpha(grid)
    torch.testing.assert_close(ratio[[0, -2]], float64(80.0, 0.002))  # arXiv:2206.00364, table 1
    leapt = VarianceExploding(0.01, 50.0)
    torch.testing.assert_close(leapt.sigma(times(leapt, 5, "log_snr", t_min=0.0)[-2]).item(), 0.01, rtol=1e-6, atol=0)


def test_levels_are_the_paths_and_infinite_at_its_ends() -> None:
    path, grid = Straight(), torch.tensor([1.0, 0.25, 0.0])
    alpha, sigma, half_log_snr = coefficients(path, grid)
    assert (alpha, sigma) == ([0, 0.75, 1], [1, 0.25, 0])
    assert half_log_snr == pytest.approx([-math.inf, math.log(3), math.inf])
    assert coefficients(CosineVP(), grid).sigma[1] == pytest.approx(CosineVP().sigma(float64(0.25)).item(), rel=1e-12)
