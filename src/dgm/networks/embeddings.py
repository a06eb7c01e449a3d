"""Embeddings of times."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Sinusoidal(nn.Module):
    """cos and sin of t at geometrically spaced frequencies, (...) to (..., width).

    Source: Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, section 3.5; t in [0, 1] is stretched
    to [0, 1000] as diffusion models count their steps.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, stretch: float = 1000.0, period: float = 10_000.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = stretch * torch.exp(-math.log(period) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[..., None].to(self.frequencies) * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)
