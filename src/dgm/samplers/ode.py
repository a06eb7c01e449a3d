r"""Explicit Runge-Kutta solvers of :math:`dx/dt = f(x, t)`: each is defined by its Butcher tableau.

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
FieldOfRows: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]  # of states, times and indices in the batch
Norm: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the error, x and the next x, for each example
Step: TypeAlias = float | Tensor

SAFETY, SMALLEST_FACTOR, LARGEST_FACTOR = 0.9, 0.2, 10.0  # bounds of the ratio of consecutive step sizes
SHORTEST = 1e-7  # the shortest step, relative to the interval


class Tableau(NamedTuple):
    """A Butcher tableau: each stage is at t + c h, at x plus h times the earlier slopes weighted by its row of a.

    ``error`` has the weights of the slopes, including that at the end of the step, for the difference from the embedded
    solution of lower order.
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
    """Yields the state at times[1], times[2], ...; the times increase or decrease.

    Example:
        >>> *_, x = integrate(lambda x, t: x, torch.ones(1), torch.linspace(0, 1, 11), "rk4")
        >>> x  # e, up to an error of order h⁴
        tensor([2.7183])
    """
    tableau, strides = TABLEAUX[solver], times.diff()
    stages = times[:-1, None] + strides[:, None] * times.new_tensor(tableau.c)
    for h, at in zip(strides.tolist(), stages, strict=True):
        x = advanced(x, h, tableau.b, slopes(f, x, h, at, tableau))
        yield x


def slopes(f: Field, x: Tensor, h: Step, at: Tensor, tableau: Tableau, first: Tensor | None = None) -> list[Tensor]:
    """The slopes of the stages of a step at the times ``at``; ``first`` is the slope at x if it is already known."""
    stage_slopes = [f(x, at[0]) if first is None else first]
    for row, t in zip(tableau.a[1:], at[1:], strict=True):
        stage_slopes.append(f(advanced(x, h, row, stage_slopes), t))
    return stage_slopes


def advanced(x: Tensor, h: Step, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """x plus h times the weighted sum of the slopes; h is one number, or one for each example."""
    if isinstance(h, float):
        return torch.add(x, weighted(weights, slopes), alpha=h)
    return torch.addcmul(x, h.to(x).view(-1, *(1,) * (x.ndim - 1)), weighted(weights, slopes))


def weighted(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    first, *others = [pair for pair in zip(weights, slopes, strict=True) if pair[0]]
    total = first[0] * first[1]
    for weight, slope in others:
        total = torch.add(total, slope, alpha=weight)
    return total


def integrate_adaptive(
    f: Field, x: Tensor, t_first: Tensor, t_last: Tensor, rtol: float = 1e-5, atol: float | Tensor = 1e-5
) -> Iterator[Tensor]:
    r"""The Dormand-Prince 5(4) method with adaptive steps; yields each accepted state, the last at t_last.

    A step is accepted where, for every example, the root mean square over its dimensions of

    .. math:: \frac{x_5 - x_4}{atol + rtol \max(|x|, |x_5|)}

    is at most 1. The whole batch has one step size, so that all examples are at the same time in each state and depend
    on each other within the tolerance; `integrate_each` has a step size for each example.

    Args:
        f: The field as a function of a state (B, ...) and a time, a scalar.
        t_first, t_last: Scalars of the dtype and device of the times that f is evaluated at, in either order.
        atol: One number, or one for each dimension of an example.

    Raises:
        BadInput: If the tolerance needs steps shorter than `SHORTEST`.

    Example:
        >>> *_, x = integrate_adaptive(lambda x, t: x, torch.ones(1, 1), torch.tensor(0.0), torch.tensor(1.0))
        >>> x
        tensor([[2.7183]])
    """

    def single_example(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        return f(x[0], t[0])[None]

    def worst(error: Tensor, x: Tensor, x_next: Tensor) -> Tensor:
        return norm(error[0], x[0], x_next[0], rtol, atol).max()[None]

    yield from (state[0] for state in _adaptive(single_example, x[None], t_first, t_last, worst))


def integrate_each(
    f: FieldOfRows, x: Tensor, t_first: Tensor, t_last: Tensor, rtol: float = 1e-5, atol: float | Tensor = 1e-5
) -> Tensor:
    """`integrate_adaptive` with a step size for each example, independent of the others; returns the last state.

    Examples that have reached t_last are not evaluated again.

    Args:
        f: The field as a function of states (b, ...), times (b,) and the indices (b,) of these examples in the batch.
    """

    def each_norm(error: Tensor, x: Tensor, x_next: Tensor) -> Tensor:
        return norm(error, x, x_next, rtol, atol)

    for state in _adaptive(f, x, t_first, t_last, each_norm):
        x = state
    return x


@torch.no_grad()
def _adaptive(f: FieldOfRows, x: Tensor, t_first: Tensor, t_last: Tensor, norm: Norm) -> Iterator[Tensor]:
    """The states of all examples, each at its own time, after every iteration with an accepted step."""
    tableau, start, end = TABLEAUX["dopri5"], t_first.item(), t_last.item()
    if start == end:
        return
    rows, states = torch.arange(len(x), device=x.device), x
    t = torch.full((len(x),), start, dtype=torch.float64, device=x.device)
    c = t.new_tensor(tableau.c)[:, None]
    slope = f(x, t.to(t_first), rows)
    h, largest_factor = first_step(f, x, t_first, end - start, slope, norm), torch.full_like(t, LARGEST_FACTOR)
    while len(rows):
        if (too_short := h.abs() < SHORTEST * abs(end - start)).any():
            at, shortest = t[too_short][0].item(), h[too_short][0].abs().item()
            raise BadInput(f"the ODE needs steps shorter than {shortest:.0e} at t = {at:.4g}", "raise atol and rtol")
        is_last = h.abs() >= (end - t).abs()
        h = torch.where(is_last, end - t, h)
        t_next = torch.where(is_last, end, t + h)

        def field(x: Tensor, t: Tensor, rows: Tensor = rows) -> Tensor:
            return f(x, t, rows)

        stage_slopes = slopes(field, x, h, (t + h * c).to(t_first), tableau, slope)
        x_next = advanced(x, h, tableau.b, stage_slopes)
        stage_slopes.append(field(x_next, t_next.to(t_first)))
        error = norm(advanced(torch.zeros_like(x), h, tableau.error, stage_slopes), x, x_next).double()
        accepted = error <= 1
        x, slope = _where(accepted, x_next, x), _where(accepted, stage_slopes[-1], slope)
        t = torch.where(accepted, t_next, t)
        factor = (SAFETY * error ** (-1 / tableau.order)).nan_to_num(SMALLEST_FACTOR, LARGEST_FACTOR)
        h = h * torch.minimum(factor.clamp_min(SMALLEST_FACTOR), largest_factor)
        # after a rejected step the step size does not increase
        largest_factor = torch.where(accepted, LARGEST_FACTOR, 1.0).to(t)
        if accepted.any():
            states = states.index_copy(0, rows, x)
            yield states
        if (finished := accepted & is_last).any():
            x, slope, t, h, largest_factor, rows = (part[~finished] for part in (x, slope, t, h, largest_factor, rows))


def _where(condition: Tensor, x: Tensor, other: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *(1,) * (x.ndim - 1)), x, other)


def norm(error: Tensor, x: Tensor, x_next: Tensor, rtol: float, atol: float | Tensor) -> Tensor:
    """The root mean square over dimensions of the error over the tolerance, (B,)."""
    scale = atol + rtol * torch.maximum(x.abs(), x_next.abs())
    return (error / scale).reshape(len(x), -1).square().mean(1).sqrt()


def first_step(f: FieldOfRows, x: Tensor, t_first: Tensor, interval: float, slope: Tensor, norm: Norm) -> Tensor:
    """The initial step size: an Euler step of a hundredth of x, or less where the slope changes fast (p. 169)."""
    size, speed = norm(x, x, x).double(), norm(slope, x, x).double()
    h_0 = torch.where(torch.minimum(size, speed) > 1e-5, 0.01 * size / speed, 1e-6).clamp_max(abs(interval))
    x_next = advanced(x, math.copysign(1, interval) * h_0, (1.0,), (slope,))
    t = (t_first.double() + math.copysign(1, interval) * h_0).to(t_first)
    curvature = norm(f(x_next, t, torch.arange(len(x), device=x.device)) - slope, x, x).double() / h_0
    largest = torch.maximum(speed, curvature)
    h_1 = torch.where(largest > 1e-15, (0.01 / largest) ** (1 / 5), (h_0 * 1e-3).clamp_min(1e-6))
    return math.copysign(1, interval) * torch.minimum(100 * h_0, h_1).clamp_max(abs(interval))
