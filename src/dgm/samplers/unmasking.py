r"""Unmasking: from all positions masked to none, one at a time or several.

A position is revealed at the first time s of the sampler at which :math:`\alpha_s > u`, with u uniform, so one that is
masked at t is seen at s with probability :math:`(\alpha_s - \alpha_t) / (1 - \alpha_t)`. Positions revealed in one step
are drawn independently of each other: two that depend on each other come out as if they did not, where they meet in a
step, which happens with probability :math:`\sum_k (\alpha_{t_{k+1}} - \alpha_{t_k})^2`, 1 / S in S steps of the linear
schedule. One at a time, in the order of the u, none meet.

Source: Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), arXiv:2406.07524, equations 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dgm.processes.masking import MaskingSchedule
from dgm.seeds import categorical


def revealed_at(u: Tensor, schedule: MaskingSchedule, steps: int) -> Tensor:
    """The step, from 0 on, in which each position is revealed: one a step, if there are no fewer steps than positions.

    Args:
        u: (n, L) uniform numbers.
        steps: Over times that fall from 1 to 0 in equal strides.
    """
    if steps >= u.shape[1]:
        return u.argsort(dim=1, stable=True).argsort(1)
    alpha = schedule.alpha(torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=u.device)[1:])
    return torch.searchsorted(alpha, u.double(), right=True)


def unmask(
    predict: Callable[[Tensor], Tensor], z: Tensor, step: Tensor, u: Tensor, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws x_0 from the prediction where a step reveals it; what is seen stays.

    Args:
        predict: Logits (n, L, K) of a state.
        z: (n, L), all masked.
        step: (n, L), the step in which each position is revealed.
        u: (n, L) uniform numbers, which choose the values.

    Yields:
        The state after each step, and the logits that it was drawn from.
    """
    for k in range(steps):
        logits, now = predict(z), step == k
        z = z.masked_scatter(now, categorical(logits[now], u[now]))
        yield z, logits


def guessed(z: Tensor, logits: Tensor, mask: int) -> Tensor:
    """The state with the likeliest value at each mask."""
    masked = z == mask
    return z.masked_scatter(masked, logits[masked].argmax(-1))
