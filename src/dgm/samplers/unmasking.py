r"""Sampling of masked diffusion: all positions are masked at first and unmasked step by step.

A position is unmasked at the first time s of the sampler at which :math:`\alpha_s > u`, with u uniform, so a position
that is masked at t is unmasked at s with probability :math:`(\alpha_s - \alpha_t) / (1 - \alpha_t)`. Positions that are
unmasked in the same step are drawn independently, which ignores their dependence. Two positions are unmasked in the
same step with probability :math:`\sum_k (\alpha_{t_{k+1}} - \alpha_{t_k})^2`, 1 / S in S steps of the linear schedule.
With as many steps as positions they are unmasked one at a time, in the order of u.

Source: Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), arXiv:2406.07524, equations 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dgm.processes.masking import MaskingSchedule
from dgm.seeds import categorical


def unmasking_step(u: Tensor, schedule: MaskingSchedule, sampling_steps: int) -> Tensor:
    """The sampling step, from 0, in which each position is unmasked; one position in each step if there are enough.

    Args:
        u: (n, L) uniform numbers.
        sampling_steps: Number of sampling steps, equally spaced from t = 1 to 0.
    """
    if sampling_steps >= u.shape[1]:
        return u.argsort(dim=1, stable=True).argsort(1)
    alpha = schedule.alpha(torch.linspace(1, 0, sampling_steps + 1, dtype=torch.float64, device=u.device)[1:])
    return torch.searchsorted(alpha, u.double(), right=True)


def unmask(
    predict: Callable[[Tensor], Tensor], z: Tensor, step: Tensor, u: Tensor, sampling_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws the positions that are unmasked in each step from the prediction; unmasked positions stay.

    Args:
        predict: Gives the logits (n, L, K) of a state.
        z: (n, L), the initial state, all masked.
        step: (n, L), the step in which each position is unmasked.
        u: (n, L) uniform numbers, which choose the values.

    Yields:
        The state after each step, and the logits that it was drawn from.
    """
    for k in range(sampling_steps):
        logits, unmasked = predict(z), step == k
        z = z.masked_scatter(unmasked, categorical(logits[unmasked], u[unmasked]))
        yield z, logits


def most_likely(z: Tensor, logits: Tensor, mask: int) -> Tensor:
    """The state with the most likely value at each masked position."""
    masked = z == mask
    return z.masked_scatter(masked, logits[masked].argmax(-1))
