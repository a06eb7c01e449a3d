r"""Corruption by masking: each position keeps its value with probability alpha_t, and is masked otherwise.

At t = 0 no position is masked, at t = 1 all are. A masked position stays masked, so the unmasking probability from t to
s < t is :math:`(\alpha_s - \alpha_t) / (1 - \alpha_t)`.

Source: Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), arXiv:2406.07524, equations 3,
6 and 9.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class MaskingSchedule(ABC):
    """alpha_t, the probability that a position is unmasked, decreasing from 1 at t = 0 to 0 at t = 1."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor: ...

    def weight(self, t: Tensor) -> Tensor:
        """-alpha_t' / (1 - alpha_t), the weight of log p(x_0 | x_t) in the bound (equation 10)."""
        return -self.alpha_dot(t) / (1 - self.alpha(t))


class Linear(MaskingSchedule):
    """alpha_t = 1 - t, which the paper calls log-linear after its -log alpha_t."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


class Cosine(MaskingSchedule):
    """alpha_t = 1 - cos(pi (1 - t) / 2): few positions are unmasked while most are masked (arXiv:2202.04200, 3.3)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (math.pi / 2 * (1 - t)).cos()

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * (math.pi / 2 * (1 - t)).sin()


def mask_positions(count: Tensor, positions: int) -> Tensor:
    """A uniformly random set of ``count`` positions for each example.

    Args:
        count: (B,) numbers of positions to mask.

    Returns:
        (B, positions), True where masked.
    """
    ranks = torch.rand(len(count), positions, device=count.device).argsort(-1).argsort(-1)
    return ranks < count[:, None]
