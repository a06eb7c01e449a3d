"""Dormand and Prince's steps against scipy's, which has the same tableau and the same control."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, solve_ivp
from torch import Tensor

from dgm.errors import BadInput
from dgm.samplers.ode import TABLEAUX, first_step, integrate_adaptive, integrate_each, norm

from .gaussian import float64


class Oscillator:
    """Van der Pol's, driven; counts its evaluations."""

    def __init__(self) -> None:
        self.evaluations = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.evaluations += 1
        position, speed = x.unbind(-1)
        return torch.stack([speed, 3 * (1 - position**2) * speed - position + t.sin()], dim=-1)

    def flat(self, t: float, x: np.ndarray) -> np.ndarray:
        return self(torch.from_numpy(x)[None], torch.tensor(t, dtype=torch.float64))[0].numpy()


@pytest.mark.parametrize(("first", "last"), [(0.0, 5.0), (1.0, 0.3)])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_adaptive_steps_are_scipys(first: float, last: float, tolerance: float) -> None:
    ours, theirs, start = Oscillator(), Oscillator(), float64(1.0, 0.5)
    ends = float64(first, last).unbind()
    states = list(integrate_adaptive(ours, start[None], *ends, tolerance, tolerance / 10))
    reference = solve_ivp(theirs.flat, (first, last), start.numpy(), rtol=tolerance, atol=tolerance / 10)
    assert len(states) == len(reference.t) - 1
    assert ours.evaluations == theirs.evaluations
    np.testing.assert_allclose(states[-1][0], reference.y[:, -1], rtol=1e-9)


@pytest.mark.parametrize("last", [2.0, -0.5, 1e-3])
@pytest.mark.parametrize("speed", [1e3, 1e-3, 1e-7, 0.0])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-7])
def test_the_first_step_is_scipys(size: float, speed: float, last: float) -> None:
    """Kills: another threshold of small norms, the smaller of both slopes, a step or its trial beyond the interval."""
    start, at = float64(size, -size), np.array([1.0, 3.0])

    def field(x: Tensor, t: Tensor, _: Tensor) -> Tensor:
        return speed * (0.1 + x + (t[:, None] * float64(1.0, 3.0)) ** 3)

    def within(error: Tensor, x: Tensor, x_next: Tensor) -> Tensor:
        return norm(error, x, x_next, 1e-3, 1.0)

    slope = field(start[None], torch.zeros(1).double(), torch.arange(1))
    found = first_step(field, start[None], float64(0.0)[0], last, slope, within)
    theirs = RK45(lambda t, x: speed * (0.1 + x + (t * at) ** 3), 0.0, start.numpy(), last, rtol=1e-3, atol=1.0)
    assert found.item() == pytest.approx(math.copysign(theirs.h_abs, last), rel=1e-9)


def test_tolerances_are_kept_to() -> None:
    start = float64(1.0, 0.5)
    exact = solve_ivp(Oscillator().flat, (0, 5), start.numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    for tolerance in (1e-3, 1e-5, 1e-7):
        *_, x = integrate_adaptive(Oscillator(), start[None], *float64(0, 5).unbind(), tolerance, tolerance)
        assert 1e-3 * tolerance < np.abs(x[0].numpy() - exact).max() < 30 * tolerance


def test_every_example_of_a_batch_is_within_the_tolerance() -> None:
    """One that is hard among many that stand still."""
    start = torch.zeros(50, 1, dtype=torch.float64)
    start[7] = 1.0
    *_, x = integrate_adaptive(lambda x, t: 8 * x * (20 * t).cos(), start, *float64(0, 1).unbind(), 1e-6, 1e-6)
    assert x[7].item() == pytest.approx(math.exp(8 * math.sin(20) / 20), rel=1e-5)


class Pendulums:
    """Oscillators with a frequency each, from hardly moving to fast; keeps which were asked."""

    def __init__(self, n: int) -> None:
        self.frequency = torch.logspace(-1, 2, n, dtype=torch.float64)
        self.asked: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        self.asked.append(rows)
        return self.frequency[rows, None] * torch.stack([x[:, 1], -x[:, 0] * (1 + t)], 1)

    def flat(self, k: int, t: float, x: np.ndarray) -> np.ndarray:
        return self(torch.from_numpy(x)[None], torch.tensor([t]), torch.tensor([k]))[0].numpy()


@pytest.mark.parametrize(("first", "last"), [(0.0, 1.0), (1.0, 0.3)])
def test_steps_for_each_are_scipys_of_each_alone(first: float, last: float) -> None:
    """An example's state and number of evaluations are those of the example alone, whatever is beside it."""
    n, ends = 12, float64(first, last).unbind()
    together, theirs, start = Pendulums(n), Pendulums(n), torch.randn(n, 2, dtype=torch.float64)
    x = integrate_each(together, start, *ends, 1e-5, 1e-6)
    evaluations = torch.cat(together.asked).bincount(minlength=n)
    for k in range(n):
        field = partial(theirs.flat, k)
        reference = solve_ivp(field, (first, last), start[k].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(x[k], reference.y[:, -1], rtol=1e-9, atol=1e-12)
        assert evaluations[k] == reference.nfev
    assert evaluations[0] * 10 < evaluations[-1]


def test_each_takes_as_many_steps_as_it_needs() -> None:
    """Where one step serves all, the easy ones take those of the hardest."""
    n, start = 12, torch.ones(12, 2, dtype=torch.float64)
    each, all_alike = Pendulums(n), Pendulums(n)
    x = integrate_each(each, start, *float64(0, 1).unbind())
    *_, other = integrate_adaptive(lambda x, t: all_alike(x, t, torch.arange(n)), start, *float64(0, 1).unbind())
    assert (x - other).abs().max() < 1e-3
    assert 2 * len(torch.cat(each.asked)) < len(torch.cat(all_alike.asked))


def test_no_way_takes_no_step() -> None:
    assert not list(integrate_adaptive(Oscillator(), float64(1.0, 0.5)[None], *float64(0.7, 0.7).unbind()))


def test_what_no_step_is_short_enough_for_is_refused() -> None:
    with pytest.raises(BadInput, match="raise atol and rtol"):
        list(integrate_adaptive(lambda x, t: x.square(), torch.ones(1, 1), *torch.tensor([0.0, 2.0]).unbind()))
    starts = torch.tensor([[0.1], [1.0], [0.2]])
    with pytest.raises(BadInput, match="at t = 1"):
        integrate_each(lambda x, t, _: x.square(), starts, *torch.tensor([0.0, 2.0]).unbind())
    with pytest.raises(BadInput, match=r"shorter than \de-07 at t = 1001"):  # of an interval of 2, wherever it begins
        integrate_each(lambda x, t, _: x.square(), torch.ones(1, 1).double(), *float64(1000, 1002).unbind())


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="raise atol and rtol"):
        integrate_each(
            lambda x, t, _: x * (0.5 - t).sqrt()[:, None], torch.ones(2, 1).double(), *float64(0, 1).unbind()
        )


@pytest.mark.parametrize("name", TABLEAUX)
def test_tableau_is_consistent(name: str) -> None:
    """Rows sum to c, b and the moments of c to the integrals of powers; an error estimate sees no constant slope."""
    a, b, c, order, error = TABLEAUX[name]
    assert [sum(row) for row in a] == pytest.approx(list(c))
    for power in range(order):
        assert sum(w * node**power for w, node in zip(b, c, strict=True)) == pytest.approx(1 / (power + 1))
    for power in range(order - 1 if error else 0):
        assert sum(w * node**power for w, node in zip(error, (*c, 1.0), strict=True)) == pytest.approx(0, abs=1e-12)
