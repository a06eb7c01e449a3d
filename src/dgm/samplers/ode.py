r"""Explicit Runge-Kutta solvers of :math:`dx/dt = f(x, t)`: a solver is its tableau, and its order is tested.

Source: Solving Ordinary Differential Equations I (Hairer, Nørsett & Wanner, 1993), section II.1, tables 1.1 and 1.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

Solver: TypeAlias = Literal["euler", "heun", "rk4"]


class Tableau(NamedTuple):
    """Butcher's tableau: each stage is at t + c h, at x plus h times the earlier slopes weighted by its row of a."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int


TABLEAUX: Mapping[str, Tableau] = {
    "euler": Tableau(a=((),), b=(1.0,), c=(0.0,), order=1),
    "heun": Tableau(a=((), (1.0,)), b=(1 / 2, 1 / 2), c=(0.0, 1.0), order=2),
    "rk4": Tableau(
        a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
        order=4,
    ),
}


def integrate(
    f: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor, solver: Solver = "heun"
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ...; the times may rise or fall.

    Example:
        >>> import torch
        >>> *_, x = integrate(lambda x, t: x, torch.ones(1), torch.linspace(0, 1, 11), "rk4")
        >>> x  # e, but for h⁴
        tensor([2.7183])
    """
    a, b, c, _ = TABLEAUX[solver]
    for t, h in zip(times[:-1], times.diff(), strict=True):
        slopes: list[Tensor] = []
        for row, offset in zip(a, c, strict=True):
            slopes.append(f(_advanced(x, h, row, slopes), t + offset * h))
        x = _advanced(x, h, b, slopes)
        yield x


def _advanced(x: Tensor, h: Tensor, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        x = x + weight * h * slope
    return x
