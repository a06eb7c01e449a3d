r"""Explicit Runge-Kutta solvers of :math:`dx/dt = f(x, t)`: a solver is its tableau, and its order is tested.

Source: Solving Ordinary Differential Equations I (Hairer, Nørsett & Wanner, 1993), section II.1, tables 1.1 and 1.2;
step control, section II.4, equations 4.11-4.14; Dormand and Prince's tableau, section II.5, table 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.errors import BadInput

Solver: TypeAlias = Literal["euler", "heun", "rk4", "dopri5"]
Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]

SAFETY, LEAST_FACTOR, GREATEST_FACTOR = 0.9, 0.2, 10.0  # of one step over the last
SHORTEST = 1e-7  # a step of the whole way


class Tableau(NamedTuple):
    """Butcher's tableau: each stage is at t + c h, at x plus h times the earlier slopes weighted by its row of a.

    ``error`` weighs the slopes, that of the end included, for the difference from a solution of one order less.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int
    error: tuple[float, ...] = ()


TABLEAUX: Mapping[str, Tableau] = {
    "euler": Tableau(a=((),), b=(1.0,), c=(0.0,), order=1),
    "heun": Tableau(a=((), (1.0,)), b=(1 / 2, 1 / 2), c=(0.0, 1.0), order=2),
    "rk4": Tableau(
        a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
        order=4,
    ),
    "dopri5": Tableau(
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
        order=5,
        error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


def integrate(f: Field, x: Tensor, times: Tensor, solver: Solver = "heun") -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ...; the times may rise or fall.

    Example:
        >>> *_, x = integrate(lambda x, t: x, torch.ones(1), torch.linspace(0, 1, 11), "rk4")
        >>> x  # e, but for h⁴
        tensor([2.7183])
    """
    tableau, strides = TABLEAUX[solver], times.diff()
    stages = times[:-1, None] + strides[:, None] * times.new_tensor(tableau.c)
    for h, at in zip(strides.tolist(), stages, strict=True):
        x = advanced(x, h, tableau.b, slopes(f, x, h, at, tableau))
        yield x


def slopes(f: Field, x: Tensor, h: float, at: Tensor, tableau: Tableau, first: Tensor | None = None) -> list[Tensor]:
    """Those of a step's stages, at the times ``at``; ``first`` is that of x itself where it is known already."""
    known = [f(x, at[0]) if first is None else first]
    for row, t in zip(tableau.a[1:], at[1:], strict=True):
        known.append(f(advanced(x, h, row, known), t))
    return known


def advanced(x: Tensor, h: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """x and h times the weighted sum of the slopes."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=weight * h)
    return x


def integrate_adaptive(
    f: Field,
    x: Tensor,
    t_first: Tensor,
    t_last: Tensor,
    rtol: float = 1e-5,
    atol: float | Tensor = 1e-5,
) -> Iterator[Tensor]:
    r"""Dormand-Prince 5(4) in steps as long as the tolerance allows; yields each accepted state, the last at t_last.

    A step is accepted where, for every example, the root mean square over its dimensions of

    .. math:: \frac{x_5 - x_4}{atol + rtol \max(|x|, |x_5|)}

    is at most 1. One step size serves the whole batch, so an example depends on the others, within the tolerance.

    Args:
        f: Of a state (B, ...) and a time, a scalar.
        t_first, t_last: Scalars of the dtype and the device that f is asked with, in either order.
        atol: One number, or one for each dimension of an example.

    Raises:
        BadInput: Where steps become so short that f must be rougher than the tolerance.

    Example:
        >>> *_, x = integrate_adaptive(lambda x, t: x, torch.ones(1, 1), torch.tensor(0.0), torch.tensor(1.0))
        >>> x
        tensor([[2.7183]])
    """
    tableau = TABLEAUX["dopri5"]
    t, end, c = t_first.item(), t_last.item(), t_first.new_tensor(tableau.c)
    if t == end:
        return
    slope = f(x, t_first)
    h = first_step(f, x, t_first, t_last, slope, rtol, atol)
    may_grow = GREATEST_FACTOR
    while t != end:
        if abs(h) < SHORTEST * abs(t_last.item() - t_first.item()):
            raise BadInput(f"the ODE needs steps shorter than {abs(h):.0e} at t = {t:.4g}", "raise atol and rtol")
        reaches = abs(h) >= abs(end - t)
        h = end - t if reaches else h
        known = slopes(f, x, h, t + h * c, tableau, slope)
        ahead = advanced(x, h, tableau.b, known)
        known.append(f(ahead, t_last if reaches else t_first.new_tensor(t + h)))
        error = norm(advanced(torch.zeros_like(x), h, tableau.error, known), x, ahead, rtol, atol)
        factor = SAFETY * error ** (-1 / tableau.order) if error else GREATEST_FACTOR
        if error <= 1:
            t, x, slope = (end if reaches else t + h), ahead, known[-1]
            h *= min(may_grow, max(LEAST_FACTOR, factor))
            may_grow = GREATEST_FACTOR
            yield x
        else:
            h *= max(LEAST_FACTOR, factor)
            may_grow = 1.0  # a step after a failed one is no longer than the one that did


def norm(error: Tensor, x: Tensor, ahead: Tensor, rtol: float, atol: float | Tensor) -> float:
    """The worst example's root mean square of the error over the tolerance."""
    scale = atol + rtol * torch.maximum(x.abs(), ahead.abs())
    return (error / scale).reshape(len(x), -1).square().mean(1).max().sqrt().item()


def first_step(
    f: Field, x: Tensor, t_first: Tensor, t_last: Tensor, slope: Tensor, rtol: float, atol: float | Tensor
) -> float:
    """One whose Euler step is a hundredth of x, unless a second evaluation says that slopes change faster (p. 169)."""
    way = t_last.item() - t_first.item()
    size, speed = norm(x, x, x, rtol, atol), norm(slope, x, x, rtol, atol)
    h_0 = min(0.01 * size / speed, abs(way)) if min(size, speed) > 1e-5 else 1e-6
    h_0 = math.copysign(h_0, way)
    bend = norm(f(torch.add(x, slope, alpha=h_0), t_first + h_0) - slope, x, x, rtol, atol) / abs(h_0)
    greatest = max(speed, bend)
    h_1 = (0.01 / greatest) ** (1 / 5) if greatest > 1e-15 else max(1e-6, abs(h_0) * 1e-3)
    return math.copysign(min(100 * abs(h_0), h_1, abs(way)), way)
