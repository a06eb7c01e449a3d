"""Langevin steps on a normal density, each of which is affine in the state and the noise."""

from __future__ import annotations

import math

import pytest

from dgm.samplers.langevin import langevin

from .gaussian import M, S, float64


@pytest.mark.parametrize("temperature", [0.0, 0.25, 1.0])
def test_a_step_is_the_equation_and_steps_follow_one_another(temperature: float) -> None:
    """x + eta / 2 score + (eta tau)^(1/2) z. Kills: tau for its root, eta for eta / 2, a state taken twice."""
    eta, x, draws = 0.3, float64(2.0), iter(float64(0.7, -1.1, 0.4).unbind())
    states = list(
        langevin(
            lambda x: (M - x) / S**2, x, langevin_steps=3, step_size=eta, noise=draws.__next__, temperature=temperature
        )
    )
    state = 2.0
    for found, z in zip(states, (0.7, -1.1, 0.4), strict=True):
        state = state + eta / 2 * (M - state) / S**2 + math.sqrt(eta * temperature) * z
        assert found.item() == pytest.approx(state)


def test_it_is_at_its_own_temperature_unless_told_otherwise() -> None:
    (found,) = langevin(lambda x: 0 * x, float64(0.0), langevin_steps=1, step_size=0.16, noise=lambda: float64(1.0))
    assert found.item() == pytest.approx(0.4)
