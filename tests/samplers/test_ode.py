"""Dormand and Prince's steps against scipy's, which has the same tableau and the same control."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dgm.errors import BadInput
from dgm.samplers.ode import TABLEAUX, integrate_adaptive

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


def test_no_way_takes_no_step() -> None:
    assert not list(integrate_adaptive(Oscillator(), float64(1.0, 0.5)[None], *float64(0.7, 0.7).unbind()))


def test_what_no_step_is_short_enough_for_is_refused() -> None:
    with pytest.raises(BadInput, match="raise atol and rtol"):
        list(integrate_adaptive(lambda x, t: x.square(), torch.ones(1, 1), *torch.tensor([0.0, 2.0]).unbind()))


@pytest.mark.parametrize("name", TABLEAUX)
def test_tableau_is_consistent(name: str) -> None:
    """Rows sum to c, b and the moments of c to the integrals of powers; an error estimate sees no constant slope."""
    a, b, c, order, error = TABLEAUX[name]
    assert [sum(row) for row in a] == pytest.approx(list(c))
    for power in range(order):
        assert sum(w * node**power for w, node in zip(b, c, strict=True)) == pytest.approx(1 / (power + 1))
    for power in range(order - 1 if error else 0):
        assert sum(w * node**power for w, node in zip(error, (*c, 1.0), strict=True)) == pytest.approx(0, abs=1e-12)
