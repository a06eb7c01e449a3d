"""At which times a solver stops: from noise, through as many evaluations as one likes, to t = 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath

Spacing: TypeAlias = Literal["uniform", "quadratic", "log_snr", "karras"]
# sigma / alpha from which on all is noise and below which all is data, with data in [-1, 1] (arXiv:2206.00364, table 1)
MOST_NOISE, LEAST_NOISE = 80.0, 0.002
EARLIEST = 1e-9  # where a path that leaps at t = 0 has leapt
RHO = 7.0  # of Karras's spacing, equation 5 there


def times(path: GaussianPath, steps: int, spacing: Spacing = "uniform", *, t_min: float = 1e-3) -> Tensor:
    r"""(steps + 1,) float64 times, falling to 0.

    ``uniform`` goes from 1 in equal strides, ``quadratic`` in strides that shrink with t (arXiv:2010.02502, section
    D.2). ``log_snr`` takes ``steps`` times in equal strides of lambda = log(alpha / sigma) (arXiv:2206.00927, section
    3.3), and ``karras`` of (sigma / alpha)^(1/7) (arXiv:2206.00364, equation 5), from sigma / alpha = 80 or the path's
    end to ``t_min`` or sigma / alpha = 0.002.

    Args:
        t_min: The earliest time that the network knows; the last step leaves from no earlier one.
    """
    grid = SPACINGS[spacing](path, steps, t_min)
    return torch.cat([grid.clamp_min(t_min), grid.new_zeros(1)])


def _power(exponent: float) -> Callable[[GaussianPath, int, float], Tensor]:
    def grid(path: GaussianPath, steps: int, t_min: float) -> Tensor:
        last = max(1 / steps, t_min ** (1 / exponent))
        return torch.linspace(1, last, steps, dtype=torch.float64) ** exponent

    return grid


def _log_snr(path: GaussianPath, steps: int, t_min: float) -> Tensor:
    first, last = ends(path, t_min)
    return path.time_of(torch.linspace(first, last, steps, dtype=torch.float64))


def _karras(path: GaussianPath, steps: int, t_min: float) -> Tensor:
    first, last = (math.exp(-end / RHO) for end in ends(path, t_min))
    return path.time_of(-RHO * torch.linspace(first, last, steps, dtype=torch.float64).log())


def ends(path: GaussianPath, t_min: float) -> tuple[float, float]:
    """lambda where noise begins and where it ends."""
    t = torch.tensor([1.0, max(t_min, EARLIEST)], dtype=torch.float64)
    first, last = path.half_log_snr(t).tolist()
    return max(first, -math.log(MOST_NOISE)), min(last, -math.log(LEAST_NOISE))


SPACINGS: Mapping[str, Callable[[GaussianPath, int, float], Tensor]] = {
    "uniform": _power(1.0),
    "quadratic": _power(2.0),
    "log_snr": _log_snr,
    "karras": _karras,
}


class Levels(NamedTuple):
    """A path at a solver's times: plain numbers of float64 precision, which no step has to wait for."""

    alpha: list[float]
    sigma: list[float]
    half_log_snr: list[float]  # -inf where alpha is 0, inf where sigma is


def levels(path: GaussianPath, times: Tensor) -> Levels:
    times = float64(times)
    return Levels(path.alpha(times).tolist(), path.sigma(times).tolist(), path.half_log_snr(times).tolist())


def float64(times: Tensor) -> Tensor:
    """The times where and as precisely as coefficients are computed, for all steps at once."""
    return times.detach().to("cpu", torch.float64)
