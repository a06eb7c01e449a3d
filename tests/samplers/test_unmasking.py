"""Unmasking where the joint is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgm.processes.masking import Cosine, Linear, MaskingSchedule
from dgm.samplers.unmasking import most_likely, unmask, unmasking_step
from dgm.seeds import streams

MASK = 2


def drawn(predict, schedule: MaskingSchedule, steps: int, n: int, length: int) -> list[tuple[Tensor, Tensor]]:  # type: ignore[no-untyped-def]
    when, which = streams(n, 0).uniform((2, length)).unbind(1)
    z, step = torch.full((n, length), MASK), unmasking_step(when, schedule, steps)
    return list(unmask(predict, z, step, which, steps))


def equal_twins(z: Tensor) -> Tensor:
    """log p of two fair coins that always agree: once one is seen the other is certain."""
    other = z.flip(1)[..., None]
    return torch.where(other == MASK, 0.0, torch.where(other == torch.arange(2), 0.0, -50.0))


def differ(schedule: MaskingSchedule, steps: int, n: int) -> float:
    """How often the twins differ, three other positions beside them."""

    def predict(z: Tensor) -> Tensor:
        return torch.cat([equal_twins(z[:, :2]), torch.zeros(len(z), 3, 2)], 1)

    z, _ = drawn(predict, schedule, steps, n, 5)[-1]
    return (z[:, 0] != z[:, 1]).double().mean().item()


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_only_positions_revealed_together_are_drawn_apart(schedule: MaskingSchedule, steps: int) -> None:
    """The twins differ half of the times that both are revealed in one step."""
    n, t = 40_000, torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    expected = schedule.alpha(t).diff().square().sum().item() / 2
    if isinstance(schedule, Linear):
        assert expected == pytest.approx(1 / (2 * steps))
    assert differ(schedule, steps, n) == pytest.approx(expected, abs=4 * (expected / n) ** 0.5)  # 4 standard errors


def test_a_position_is_unmasked_at_the_first_time_whose_alpha_is_above_its_number() -> None:
    """Of quarters in four steps, whose alphas are 1/4, 1/2, 3/4 and 1. Kills: an alpha that is as large."""
    u = torch.tensor([[0.0, 0.25, 0.5, 0.75, 0.999]])
    assert unmasking_step(u, Linear(), 4).tolist() == [[0, 1, 2, 3, 3]]


@pytest.mark.parametrize("steps", [5, 50])
def test_one_at_a_time_the_twins_agree(steps: int) -> None:
    assert differ(Cosine(), steps, 2000) == 0


def test_one_at_a_time_every_order_comes_alike() -> None:
    step = unmasking_step(streams(60_000, 1).uniform((4,)), Linear(), 4)
    assert (step.sort(1).values == torch.arange(4)).all()
    counts = (step * torch.tensor([1, 4, 16, 64])).sum(1).unique(return_counts=True)[1].double()
    assert len(counts) == 24
    assert ((counts - 2500) ** 2 / 2500).sum() < 55  # chi-square, 23 degrees of freedom, false alarm 0.02 %


def test_shares_seen_follow_the_schedule_and_what_is_seen_stays() -> None:
    states = drawn(lambda z: torch.zeros(*z.shape, 2), Cosine(), 4, 500, 40)
    before = torch.full((500, 40), MASK)
    for (z, _), t in zip(states, torch.tensor([0.75, 0.5, 0.25, 0.0]), strict=True):
        assert ((before == MASK) | (before == z)).all()
        assert (z != MASK).double().mean().item() == pytest.approx(Cosine().alpha(t).item(), abs=0.015)  # 4 s.e.
        before = z
    assert (before != MASK).all()


def test_positions_follow_their_predictions() -> None:
    """Each its own: two positions with other logits, whichever of them is revealed first."""
    p = torch.tensor([[0.2, 0.8], [0.7, 0.3]])
    z, logits = drawn(lambda z: p.log().expand(*z.shape, 2), Linear(), 2, 20_000, 2)[-1]
    for of_one, share in zip(z.double().mean(0).tolist(), (0.8, 0.3), strict=True):
        assert of_one == pytest.approx(share, abs=4 * (0.25 / 20_000) ** 0.5)
    assert logits.shape == (20_000, 2, 2)


def test_a_guess_is_the_likeliest_value_where_a_mask_is() -> None:
    z = torch.tensor([[0, MASK], [MASK, 1]])
    logits = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    assert most_likely(z, logits, MASK).tolist() == [[0, 1], [0, 1]]
