"""A codec that tests of two stages share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgm.space import Space


class Shuffle(nn.Module):
    """Each symbol stands for another one."""

    @dataclass(frozen=True)
    class Config:
        pass

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space = self.latent_space = space
        self.config = config
        self.register_buffer("table", (torch.arange(space.values or 0) + 1) % (space.values or 1))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.table[x]

    def encode_and_ladj(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.encode(x), torch.zeros(len(x))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.table.argsort()[z]
