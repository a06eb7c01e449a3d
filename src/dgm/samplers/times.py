"""Time grids of solvers, from noise at t = 1 to data at t = 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath

Spacing: TypeAlias = Literal["uniform", "quadratic", "log_snr", "karras"]
# range of sigma / alpha between pure noise and data in [-1, 1] (arXiv:2206.00364, table 1)
SIGMA_MAX, SIGMA_MIN = 80.0, 0.002
EARLIEST = 1e-9  # a time after the discontinuity that some paths have at t = 0
RHO = 7.0  # of Karras's spacing, equation 5 there


def times(path: GaussianPath, sampling_steps: int, spacing: Spacing = "uniform", *, t_min: float = 1e-3) -> Tensor:
    r"""(sampling_steps + 1,) float64 times, decreasing to 0.

    ``uniform`` times are equally spaced, ``quadratic`` ones are squares of equally spaced numbers (arXiv:2010.02502,
    section D.2). ``log_snr`` spaces them equally in lambda = log(alpha / sigma) (arXiv:2206.00927, section 3.3), and
    ``karras`` in (sigma / alpha)^(1/7) (arXiv:2206.00364, equation 5), from sigma / alpha = 80 or t = 1 to ``t_min`` or
    sigma / alpha = 0.002.

    Args:
        t_min: The earliest time that the network is trained at, a lower bound of all times but the last.
    """
    grid = SPACINGS[spacing](path, sampling_steps, t_min)
    return torch.cat([grid.clamp_min(t_min), grid.new_zeros(1)])


def _power(exponent: float) -> Callable[[GaussianPath, int, float], Tensor]:
    def grid(path: GaussianPath, sampling_steps: int, t_min: float) -> Tensor:
        last = max(1 / sampling_steps, t_min ** (1 / exponent))
        return torch.linspace(1, last, sampling_steps, dtype=torch.float64) ** exponent

    return grid


def _log_snr(path: GaussianPath, sampling_steps: int, t_min: float) -> Tensor:
    first, last = lambda_range(path, t_min)
    return path.time_of(torch.linspace(first, last, sampling_steps, dtype=torch.float64))


def _karras(path: GaussianPath, sampling_steps: int, t_min: float) -> Tensor:
    first, last = (math.exp(-end / RHO) for end in lambda_range(path, t_min))
    return path.time_of(-RHO * torch.linspace(first, last, sampling_steps, dtype=torch.float64).log())


def lambda_range(path: GaussianPath, t_min: float) -> tuple[float, float]:
    """lambda at the first and the last time of the grid."""
    t = torch.tensor([1.0, max(t_min, EARLIEST)], dtype=torch.float64)
    first, last = path.half_log_snr(t).tolist()
    return max(first, -math.log(SIGMA_MAX)), min(last, -math.log(SIGMA_MIN))


SPACINGS: Mapping[str, Callable[[GaussianPath, int, float], Tensor]] = {
    "uniform": _power(1.0),
    "quadratic": _power(2.0),
    "log_snr": _log_snr,
    "karras": _karras,
}


class Coefficients(NamedTuple):
    """The coefficients of a path at the times of a solver, as Python floats, which a GPU need not wait for."""

    alpha: list[float]
    sigma: list[float]
    half_log_snr: list[float]  # -inf where alpha is 0, inf where sigma is


def coefficients(path: GaussianPath, times: Tensor) -> Coefficients:
    times = float64(times)
    return Coefficients(path.alpha(times).tolist(), path.sigma(times).tolist(), path.half_log_snr(times).tolist())


def float64(times: Tensor) -> Tensor:
    """The times in float64 on the CPU, where the coefficients of all steps are computed."""
    return times.detach().to("cpu", torch.float64)
