"""Embeddings of times and labels: the formula, the share that is hidden, what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgm.errors import BadInput, Unsupported
from dgm.networks.embeddings import Sinusoidal, check_labels, hidden_labels, sampled_labels
from dgm.seeds import streams


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


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_share_of_labels_that_is_asked_for_is_hidden(share: float) -> None:
    """Kills: 1 - share, all or none of a batch."""
    y, n = torch.arange(20_000) % 3, 20_000
    found = hidden_labels(y, 3, share)
    assert found is not None
    hidden = found == 3
    assert abs(hidden.float().mean().item() - share) <= 5 * math.sqrt(share * (1 - share) / n)
    assert torch.equal(found[~hidden], y[~hidden])
    assert hidden_labels(None, 0, share) is None


def test_labels_out_of_range_or_place_are_refused() -> None:
    y = torch.tensor([0, 2])
    assert check_labels(y, 3) is y
    assert check_labels(None, 0) is None
    assert check_labels(y[:0], 3) is not None
    for wrong in (torch.tensor([3]), torch.tensor([-1, 0])):
        with pytest.raises(BadInput, match="from 0 to 2"):
            check_labels(wrong, 3)
    with pytest.raises(Unsupported, match="without labels"):
        check_labels(y, 0)
    with pytest.raises(Unsupported, match="from 0 to 2"):
        check_labels(None, 3)


def conditional_on(classes: int, shares: list[float] | None = None) -> Any:
    return SimpleNamespace(config=SimpleNamespace(classes=classes), label_shares=shares)


@pytest.mark.parametrize("shares", [None, [0.5, 0.1, 0.4]])
def test_labels_that_are_not_given_are_drawn_by_the_samples_own_streams(shares: list[float] | None) -> None:
    """As often as in training, or each as often as the others. Kills: a label that is never drawn."""
    model, n = conditional_on(3, shares), 6000
    drawn, few = (sampled_labels(None, model, streams(k, 0)) for k in (n, 7))
    assert drawn is not None
    p = torch.tensor(shares or [1 / 3] * 3)
    assert ((drawn.bincount(minlength=3) / n - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    assert torch.equal(drawn[:7], few)  # type: ignore[arg-type]
    assert sampled_labels(None, conditional_on(0), streams(2, 0)) is None
    y = torch.tensor([1, 0])
    assert sampled_labels(y, model, streams(2, 0)) is y
