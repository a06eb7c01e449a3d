"""Masking schedules against autodiff, the Markov property, and the integral that removes the time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dgm.processes.masking import Cosine, Linear, MaskingSchedule, mask_positions

each_schedule = pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=lambda schedule: type(schedule).__name__)


@each_schedule
def test_ends_and_slope(schedule: MaskingSchedule) -> None:
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([1.0, 0.0], dtype=torch.float64))
    t = torch.linspace(0.01, 0.99, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.alpha_dot(t), slope)


@each_schedule
def test_time_integrates_out(schedule: MaskingSchedule) -> None:
    """The weight times the probability of one set of k masked positions of D is 1 / (k binomial(D, k))."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    masked = 1 - schedule.alpha(t)
    for d, k in ((3, 1), (3, 2), (3, 3), (8, 5)):
        integral = (w * schedule.weight(t) * masked**k * (1 - masked) ** (d - k)).sum()
        assert integral.item() == pytest.approx(1 / (k * math.comb(d, k)), rel=1e-9)


def test_every_set_of_a_size_is_masked_alike() -> None:
    torch.manual_seed(0)
    masked = mask_positions(torch.full((20_000,), 2), 4)
    assert (masked.sum(1) == 2).all()
    counts = (masked * torch.tensor([1, 2, 4, 8])).sum(1).bincount()
    counts = counts[counts > 0].double()
    assert len(counts) == 6
    expected = 20_000 / 6
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # chi-square, 5 degrees of freedom, false alarm 0.1 %
