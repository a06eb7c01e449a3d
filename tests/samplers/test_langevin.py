"""Langevin steps on a normal density, each of which is affine in the state and the noise."""

from __future__ import annotations

import math

import pytest
import torch

from dgm.processes.gaussian import Straight
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.langevin import langevin

from .gaussian import M, S, certain, float64


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


def test_between_two_scales_the_state_follows_alpha_but_not_from_pure_noise() -> None:
    """With Langevin steps of length 0 it stays from t = 1 to 3/4, where alpha is 1/4, and doubles to 1/2."""
    times, x = float64(1.0, 0.75, 0.5, 0.0), float64(0.7, -2.0)
    states = annealed_langevin(certain(0.4, Straight()), Straight(), x, times, lambda: x, step_size=0.0)
    torch.testing.assert_close(torch.stack(list(states)), torch.stack([x, 2 * x, torch.full_like(x, 0.4)]))
