"""The base class of models whose scaled points are a mixture of Gaussians."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dgm.distributions.gaussian_mixture import Gaussians
from dgm.distributions.scaling import Scaling
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.space import Space


class GaussianModel(nn.Module, ABC):
    """An abstract `dgm.protocols.Imputing`: the conditionals of Gaussians are Gaussians."""

    def __init__(self, space: Space, config: Any) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)

    @property
    @abstractmethod
    def gaussians(self) -> Gaussians:
        """The components, of scaled points."""

    def scaled(self, x: Batch) -> Tensor:
        return self.scaling(x).flatten(1).double()

    def unscaled(self, z: Tensor) -> Batch:
        return self.scaling.inverse(z.to(torch.get_default_dtype()).unflatten(1, self.space.shape))

    @torch.no_grad()
    def impute(self, x: Batch, observed: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(len(x), seed, self.scaling.loc.device)
        z = self.gaussians.completed(self.scaled(x), observed.flatten(1), noise)
        return torch.where(observed, x, self.unscaled(z))

    def log_prob_observed(self, x: Batch, observed: Tensor, y: Conditions | None = None) -> PerExample:
        log_p = self.gaussians.log_prob_observed(self.scaled(x), observed.flatten(1)) + self.scaling.ladj_of(observed)
        return log_p.to(torch.get_default_dtype())
