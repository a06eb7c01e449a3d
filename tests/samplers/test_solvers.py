"""Every solver of the table on every path with every spacing: the law of what it makes of Gaussian data."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
import torch

from dgm.processes.gaussian import GaussianPath, LinearVE, LinearVP, VarianceExploding
from dgm.processes.parameterisation import Prediction
from dgm.samplers.probability_flow import probability_flow
from dgm.samplers.solvers import SOLVERS
from dgm.samplers.times import SPACINGS, times

from .gaussian import PATHS, M, S, float64, law, optimal, path_name

# of the standard deviation, with 50 steps: by order, and by what Langevin steps leave
TOLERANCES = {None: 0.12, 1: 0.12, 2: 0.05, 3: 0.01, 4: 0.002, 5: 0.002}


def steps(name: str, path: GaussianPath, spacing: str) -> int:
    """More where strides of t are long at little noise, or the slope in t is as steep as noise is strong."""
    if isinstance(path, LinearVE):
        return {"uniform": 2000, "quadratic": 400}.get(spacing, 50)
    return 1000 if isinstance(path, VarianceExploding) and name in ("euler", "heun") else 50


@pytest.mark.parametrize("path", PATHS, ids=path_name)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SOLVERS)
def test_law(name: str, spacing: str, path: GaussianPath) -> None:
    """N(M, S²), but for the last step to x_0 as predicted, which leaves out what is still uncertain there."""
    solver = SOLVERS[name]
    grid = times(path, steps(name, path, spacing), spacing)  # type: ignore[arg-type]
    mean, std = law(solver.solve, path, grid)
    alpha, sigma = path.alpha(grid[-2]), path.sigma(grid[-2])
    expected = (alpha * S**2 / (alpha**2 * S**2 + sigma**2).sqrt()).item()
    assert mean == pytest.approx(M, abs=0.015)
    assert std == pytest.approx(expected, rel=TOLERANCES[solver.order])


@pytest.mark.parametrize("name", SOLVERS)
def test_what_the_table_says_of_noise_and_evaluations(name: str) -> None:
    path, grid, drawn, asked = LinearVP(), torch.linspace(0.9, 0, 21, dtype=torch.float64), [], []

    def noise() -> torch.Tensor:
        drawn.append(1)
        return float64(0.1)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> Prediction:
        asked.append(1)
        return optimal(path)(x, t)

    solver = SOLVERS[name]
    states = list(solver.solve(denoise, path, float64(0.5), grid, noise))
    assert bool(drawn) == solver.stochastic
    if solver.evaluations is not None:
        assert len(states) == 20
        # the last step takes one evaluation, or one besides the steps at its level
        assert len(asked) in (20 * solver.evaluations - solver.evaluations + 1, 20 * solver.evaluations + 1)


@pytest.mark.parametrize("name", SOLVERS)
def test_float32_follows_float64(name: str) -> None:
    """From one start, with one noise: what is lost is rounding, at every level of it."""
    for path in PATHS:
        grid = times(path, 30, "log_snr")
        start = path.sigma(grid[0]) * float64(-1.5, 0.2, 2.0)
        draws = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ends = []
        for dtype in (torch.float64, torch.float32):
            source = iter(draws.to(dtype))
            *_, x = SOLVERS[name].solve(optimal(path), path, start.to(dtype), grid.to(dtype), source.__next__)
            assert x.dtype == dtype
            ends.append(x.double())
        torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_called_alike(name: str) -> None:
    parameters = list(inspect.signature(SOLVERS[name].solve).parameters.values())
    assert [p.name for p in parameters[:5]] == ["denoise", "path", "x", "times", "noise"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[5:])


# of the papers, or of the docstrings where they are the solver's own
DEFAULTS: dict[str, dict[str, Any]] = {
    "adaptive": {"rtol": 1e-5, "atol": 1e-5},  # arXiv:2011.13456, appendix D.1
    "ancestral": {"variance": "posterior"},
    "annealed_langevin": {"langevin_steps": 5, "step_size": 0.6},
    "ddim": {"eta": 0.0},
    "edm": {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003},  # arXiv:2206.00364, table 5
    "predictor_corrector": {"snr": 0.16, "corrections": 1},  # arXiv:2011.13456, appendix G
    "unipc": {"order": 2},
}


@pytest.mark.parametrize("name", SOLVERS)
def test_options_left_out_are_the_papers(name: str) -> None:
    solve = SOLVERS[name].solve
    options = [p for p in inspect.signature(solve).parameters.values() if p.kind is p.KEYWORD_ONLY]
    told = solve.keywords if isinstance(solve, partial) else {}
    assert {p.name: p.default for p in options if p.name not in told} == DEFAULTS.get(name, {})


def test_the_ode_is_solved_by_heuns_method_unless_told_otherwise() -> None:
    path, start, grid = LinearVP(), float64(0.3), torch.linspace(0.9, 0.1, 4, dtype=torch.float64)
    states = (
        list(probability_flow(optimal(path), path, start, grid, **options)) for options in ({}, {"method": "heun"})
    )
    torch.testing.assert_close(*states)
