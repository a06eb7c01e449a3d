"""A model that is no part of dgm: uniform over a discrete space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dgm.seeds import Seed, streams
from dgm.space import Space


class Uniform(nn.Module):
    """Every x equally likely; exact log-likelihood."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.full((len(x),), -self.space.dim * math.log(self.space.values or 1))

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        u = streams(n, seed).uniform(self.space.shape)
        return (u * (self.space.values or 1)).long().to(self.space.dtype)
