"""Embeddings of times."""

from __future__ import annotations

import math

import pytest
import torch

from dgm.networks.embeddings import Sinusoidal


def test_times_are_the_papers_waves() -> None:
    """cos and sin of 1000 t / 10000^(k / half). Kills: another base, another stretch, sines for cosines."""
    t = torch.tensor([0.0, 0.37, 1.0])
    found = Sinusoidal(6)(t)
    for row, time in zip(found, t.tolist(), strict=True):
        angles = [1000 * time / 10_000 ** (k / 3) for k in range(3)]
        expected = [f(angle) for f in (math.cos, math.sin) for angle in angles]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)  # float32 has 1000 to 6e-5
    other = Sinusoidal(4, stretch=2.0, period=100.0)(torch.tensor([[0.5], [3.0]]))
    assert other[1, 0].tolist() == pytest.approx([math.cos(6), math.cos(0.6), math.sin(6), math.sin(0.6)], abs=1e-5)
