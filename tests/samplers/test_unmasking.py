"""Unmasking where the joint is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgm.processes.masking import Cosine, Linear, MaskingSchedule
from dgm.samplers.unmasking import unmask

MASK = 2


def drawn(predict, schedule: MaskingSchedule, steps: int, n: int, length: int) -> list[tuple[Tensor, Tensor]]:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    return list(
        unmask(
            predict,
            schedule,
            torch.full((n, length), MASK),
            torch.linspace(1, 0, steps + 1),
            mask=MASK,
            uniform=lambda: torch.rand(n, length, generator=generator),
            categorical=lambda logits: torch.distributions.Categorical(logits=logits).sample(),
        )
    )


def equal_twins(z: Tensor) -> Tensor:
    """log p of two fair coins that always agree: once one is seen the other is certain."""
    other = z.flip(1)[..., None]
    return torch.where(other == MASK, 0.0, torch.where(other == torch.arange(2), 0.0, -50.0))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_only_positions_revealed_together_are_drawn_apart(schedule: MaskingSchedule) -> None:
    """The twins differ half of the times that both are revealed in one step."""
    torch.manual_seed(0)
    n, steps = 20_000, 5
    z, _ = drawn(equal_twins, schedule, steps, n, 2)[-1]
    together = schedule.alpha(torch.linspace(1, 0, steps + 1)).diff().square().sum().item()
    differ = (z[:, 0] != z[:, 1]).double().mean().item()
    assert differ == pytest.approx(together / 2, abs=4 * (together / 2 / n) ** 0.5)  # 4 standard errors


def test_shares_seen_follow_the_schedule_and_what_is_seen_stays() -> None:
    torch.manual_seed(0)
    states = drawn(lambda z: torch.zeros(*z.shape, 2), Cosine(), 4, 500, 40)
    before = torch.full((500, 40), MASK)
    for (z, shown), t in zip(states, torch.tensor([0.75, 0.5, 0.25, 0.0]), strict=True):
        assert ((before == MASK) | (before == z)).all()
        assert (shown != MASK).all()
        assert (z != MASK).double().mean().item() == pytest.approx(Cosine().alpha(t).item(), abs=0.015)  # 4 s.e.
        before = z
    assert (before != MASK).all()


def test_one_position_follows_the_prediction() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.2, 0.8]).log()
    z, _ = drawn(lambda z: logits.expand(*z.shape, 2), Linear(), 3, 20_000, 1)[-1]
    assert z.double().mean().item() == pytest.approx(0.8, abs=4 * (0.16 / 20_000) ** 0.5)
