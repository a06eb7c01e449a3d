r"""Denoising diffusion implicit model: trained as DDPM, sampled with adjustable noise; a lower bound.

Training is that of DDPM, whose loss depends on q(x_t | x_0) alone; every eta gives a generative process with the same
marginals. With eta = 0 samples are a deterministic function of the noise, and its inverse gives the code of an image:

.. math:: x_s = \alpha_s \hat x_0(x_t, t) + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon(x_t, t) + c z, \qquad
    c = \eta \frac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2}

Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equations 12, 14 and 16, section 5.4.
The bound is that of DDPM, eta = 1, for any eta of the sampler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.models.diffusion.ddpm import DDPM
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.parameterisation import Prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers.ddim import ddim
from dgm.samplers.diffusion import SamplerConfig, denoiser
from dgm.samplers.times import times
from dgm.settings import setting
from dgm.space import Space


class DDIM(GaussianDenoiser):
    """A `DDPM` with a code for each x.

    Example:
        >>> model = DDIM(Space.continuous((2,)), DDIM.Config(sampling_steps=5))
        >>> model.encode(torch.zeros(3, 2)).shape
        torch.Size([3, 2])
    """

    likelihood_method = DDPM.likelihood_method

    @dataclass(frozen=True, kw_only=True)
    class Config:
        timesteps: int = setting(100, "T, diffusion steps of the bound", low=2, high=100_000)
        schedule: Literal["linear", "cosine"] = setting("cosine", "noise schedule")
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        eta: float = setting(0.0, "noise of the sampler: 0 none, 1 as much as DDPM", low=0.0, high=1.0)
        sampling_steps: int = setting(50, "sampling steps, also of the code", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        shared = {name: getattr(config, name) for name in ("timesteps", "schedule", "width", "condition_dropout")}
        self.ddpm = DDPM(space, DDPM.Config(**shared), condition)
        self.ddpm.marginal = None  # conditions are drawn by the outer model
        self.path, self.t_min = self.ddpm.path, self.ddpm.t_min
        options = {"eta": config.eta}
        self.sampler = SamplerConfig(solver="ddim", sampling_steps=config.sampling_steps, clamp=True, options=options)
        self.estimate_method = self.ddpm.estimate_method

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.ddpm.loss(x, y)

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return self.ddpm.predict(x_t, t, y)

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.ddpm.elbo(x, y)

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.ddpm.log_prob_estimate(x, y)

    @property
    def latent_space(self) -> Space:
        return Space.continuous(self.space.shape)

    @torch.no_grad()
    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The code x_1, (B, *shape), whose reconstruction error decreases with more steps (equation 14)."""
        x_0, y = self.scaling(x), self.checked(y)
        grid = self.grid().flip(0)[1:]  # from t_min, where the state is approximated by x_0
        *_, code = ddim(denoiser(self, y), self.path, self.path.alpha(grid[0]) * x_0, grid)
        return code

    @torch.no_grad()
    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        y = self.checked(y)
        *_, x = ddim(denoiser(self, y), self.path, z, self.grid())
        return self.scaling.inverse(x)

    def grid(self) -> Tensor:
        grid = times(self.path, self.config.sampling_steps, self.sampler.spacing, t_min=self.t_min)
        return grid.to(self.scaling.loc)
