"""Unmasking: from all positions masked to none, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dgm.processes.masking import MaskingSchedule


def unmask(
    predict: Callable[[Tensor], Tensor],
    schedule: MaskingSchedule,
    z: Tensor,
    times: Tensor,
    *,
    mask: int,
    uniform: Callable[[], Tensor],
    categorical: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws z_s from q(z_s | z_t, x_0) with x_0 drawn from the prediction; what is seen stays.

    Source: Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), arXiv:2406.07524, equation 7.

    Args:
        predict: Logits (n, L, K) of a state.
        z: (n, L) state at times[0].
        times: (steps + 1,), falling; where the last is 0 no mask is left.
        mask: The mask symbol.
        uniform: Gives numbers in [0, 1) of z's shape.
        categorical: Draws (n, L) values from logits.

    Yields:
        The state at times[1], times[2], ... and the same with the likeliest value at each mask.
    """
    for t, s in pairwise(times):
        logits = predict(z)
        revealed = (z == mask) & (uniform() < schedule.reveals(s, t))
        z = torch.where(revealed, categorical(logits), z)
        yield z, torch.where(z == mask, logits.argmax(-1), z)
