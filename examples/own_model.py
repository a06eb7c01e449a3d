"""Independent pixels, each with a table of probabilities of its own: the smallest model with an exact likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space


class Independent(nn.Module):
    """Independent dimensions; exact log-likelihood."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        start: float = setting(0.0, "the logits before training")

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.logits = nn.Parameter(torch.full((*space.shape, space.values or 2), config.start))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        table = self.logits.log_softmax(-1).expand(len(x), *self.logits.shape)
        return table.gather(-1, x.long()[..., None]).flatten(1).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x, y)

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        noise = streams(n, seed)
        return noise.categorical(self.logits.detach().expand(n, *self.logits.shape)).to(self.space.dtype)
