"""Data N(M, S²), of which all is known: the best denoiser, the ODE's solutions and the law of what a solver makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, SubVP, VarianceExploding, over
from dgm.processes.parameterisation import Denoise, Prediction

M, S = 0.3, 0.6
PATHS: list[GaussianPath] = [LinearVP(), CosineVP(), SubVP(), VarianceExploding(0.01, 50.0), LinearVE(80.0), Straight()]
Solve = Callable[..., Iterator[Tensor]]


def path_name(path: GaussianPath) -> str:
    return type(path).__name__


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def optimal(path: GaussianPath) -> Denoise:
    """E[x_0 | x_t] and E[eps | x_t]."""

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = path.alpha(over(t, x)), path.sigma(over(t, x))
        assert (sigma > 0).all(), "a network was asked where there is no noise"
        standard = (x - alpha * M) / (alpha**2 * S**2 + sigma**2)
        return Prediction(M + alpha * S**2 * standard, sigma * standard)

    return denoise


def certain(x_0: float, path: GaussianPath) -> Denoise:
    """Data that is always x_0."""
    return lambda x, t: Prediction(torch.full_like(x, x_0), (x - path.alpha(t) * x_0) / path.sigma(t))


def marginal(path: GaussianPath, t: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of x_t."""
    return (path.alpha(t) * M).item(), (path.alpha(t) ** 2 * S**2 + path.sigma(t) ** 2).sqrt().item()


def flowed(path: GaussianPath, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The probability-flow ODE's exact solution: it keeps each point's standard score."""
    (mean_t, std_t), (mean_s, std_s) = marginal(path, t), marginal(path, s)
    return mean_s + std_s / std_t * (x - mean_t)


def law(solve: Solve, path: GaussianPath, times: Tensor, **options: Any) -> tuple[float, float]:
    """Mean and standard deviation of the last state, exact: every step is affine in the state and in its noise.

    The first two of a batch start at 0 and 1 and draw only zeros; each further one starts at 0 and one draw of it is 1.
    """
    draws = iter(range(2, 2 + 5 * len(times)))

    def one(k: int) -> Tensor:
        return torch.zeros(2 + 5 * len(times), dtype=torch.float64).index_fill(0, torch.tensor(k), 1.0)

    *_, x = solve(optimal(path), path, one(1), times, lambda: one(next(draws)), **options)
    of_start_and_noise = x[1:] - x[0]
    mean, std = marginal(path, times[0])
    spread = torch.cat([std * of_start_and_noise[:1], of_start_and_noise[1:]])
    return (x[0] + mean * of_start_and_noise[0]).item(), spread.norm().item()


def order(error: Callable[[int], float], steps: int = 32) -> float:
    """That of an error that falls as a power of the step, from two numbers of steps."""
    return math.log2(error(steps) / error(2 * steps))
