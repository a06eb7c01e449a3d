r"""Denoising diffusion implicit model: DDPM's training, sampled with as little noise as one likes; a lower bound.

Training is DDPM's, whose loss depends on q(x_t | x_0) alone; every eta is a generative process with these marginals.
With eta = 0 samples are a function of their noise, and run backwards it gives an image its code:

.. math:: x_s = \alpha_s \hat x_0(x_t, t) + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon(x_t, t) + c z, \qquad
    c = \eta \frac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2}

Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equations 12, 14 and 16, section 5.4.
The bound is DDPM's, of eta = 1, whatever eta samples have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.models.diffusion.ddpm import DDPM
from dgm.networks.embeddings import check_labels
from dgm.processes.parameterisation import Prediction
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import diffusion
from dgm.samplers.ddim import ddim
from dgm.samplers.diffusion import SamplerConfig, denoiser
from dgm.samplers.times import times
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space


class DDIM(nn.Module):
    """A `DDPM` with a code for each x.

    Example:
        >>> model = DDIM(Space.continuous((2,)), DDIM.Config(sampling_steps=5))
        >>> model.encode(torch.zeros(3, 2)).shape
        torch.Size([3, 2])
    """

    spaces: ClassVar[set[str]] = DDPM.spaces
    defaults: ClassVar[dict[str, Any]] = DDPM.defaults
    likelihood_method = DDPM.likelihood_method

    @dataclass(frozen=True, kw_only=True)
    class Config:
        timesteps: int = setting(100, "T, diffusion steps of the bound", low=2, high=100_000)
        schedule: Literal["linear", "cosine"] = setting("cosine", "how fast noise comes in")
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        eta: float = setting(0.0, "noise in the sampler's steps: 0 none, 1 as much as DDPM's", low=0.0, high=1.0)
        sampling_steps: int = setting(50, "steps of the sampler and of the code", low=1, high=100_000)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)
        condition_dropout: float = setting(0.1, "share of labels hidden in training, for guidance", low=0.0, high=1.0)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        shared = {
            name: getattr(config, name) for name in ("timesteps", "schedule", "width", "classes", "condition_dropout")
        }
        self.ddpm = DDPM(space, DDPM.Config(**shared))
        self.scaling, self.path, self.t_min = self.ddpm.scaling, self.ddpm.path, self.ddpm.t_min
        options = {"eta": config.eta}
        self.sampler = SamplerConfig(solver="ddim", sampling_steps=config.sampling_steps, clamp=True, options=options)
        self.estimate_method = self.ddpm.estimate_method

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.ddpm.loss(x, y)

    def predict(self, x_t: Tensor, t: PerExample, y: Labels | None = None) -> Prediction:
        return self.ddpm.predict(x_t, t, y)

    def elbo(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.ddpm.elbo(x, y)

    def log_prob_estimate(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.ddpm.log_prob_estimate(x, y)

    @property
    def latent_space(self) -> Space:
        return Space.continuous(self.space.shape)

    @torch.no_grad()
    def encode(self, x: Batch, y: Labels | None = None) -> Tensor:
        """x_1, (B, *shape), from which `decode` comes back: the nearer, the more steps (equation 14)."""
        x_0, y = self.scaling(x), check_labels(y, self.config.classes)
        grid = self.grid().flip(0)[1:]  # from the earliest time that the network knows, where x_0 still is the state
        *_, code = ddim(denoiser(self, y), self.path, self.path.alpha(grid[0]) * x_0, grid)
        return code

    @torch.no_grad()
    def decode(self, z: Tensor, y: Labels | None = None) -> Batch:
        y = check_labels(y, self.config.classes)
        *_, x = ddim(denoiser(self, y), self.path, z, self.grid())
        return self.scaling.inverse(x)

    def grid(self) -> Tensor:
        grid = times(self.path, self.config.sampling_steps, self.sampler.spacing, t_min=self.t_min)
        return grid.to(self.scaling.loc)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return diffusion.sample(self, n, y, seed=seed)

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return diffusion.trajectory(self, n, y, seed=seed)
