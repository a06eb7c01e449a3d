r"""EDM, a preconditioned diffusion model; an estimate of the likelihood.

The denoiser D(x; sigma) preconditions a network F so that its inputs and outputs have unit variance at every noise
scale,

.. math:: D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x; c_{noise}), \qquad
    \mathcal L = E_\sigma\, \lambda(\sigma)\, \| D(x_0 + \sigma\epsilon; \sigma) - x_0 \|^2,

with a log-normal distribution of sigma. Samples solve dx/dsigma = eps, from sigma_max to 0, with steps that decrease
with sigma.

Source: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364,
equations 5, 7 and 8, table 1. Its time is sigma: t here is sigma / sigma_max.
Differs from it: a smaller network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import LinearVE, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.settings import setting
from dgm.space import Space

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
P_MEAN, P_STD = -1.2, 1.2  # of log sigma in training


class EDM(GaussianDenoiser):
    """Predicts a noise-dependent mixture of data and noise.

    Example:
        >>> model = EDM(Space.levels((1, 8, 8), 17), EDM.Config())
        >>> model.loss(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """

    t_min = SIGMA_MIN / SIGMA_MAX

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(18, "sampling steps of Heun's method, two evaluations each", low=2, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.path = LinearVE(SIGMA_MAX)
        self.sigma_data = 0.5 if space.discrete or space.bounds else 1.0  # of images in [-1, 1], as in the paper
        self.network = self.denoiser()
        self.sampler = SamplerConfig(solver="heun", sampling_steps=config.sampling_steps, spacing="karras")
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """lambda(sigma) ||D - x_0||² / D with lambda = 1 / c_out²: ||F - target||² (equation 8)."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        sigma = (P_MEAN + P_STD * torch.randn(len(x), device=x.device)).exp().to(x_0)
        denoised = self.denoised(x_0 + over(sigma, x_0) * torch.randn_like(x_0), sigma, given)
        weight = (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()
        return weight * (denoised - x_0).square().flatten(1).mean(1)

    def denoised(self, x: Tensor, sigma: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """D(x; sigma), sigma (B,) (equation 7)."""
        level, data = over(sigma, x), self.sigma_data
        total = (level.square() + data**2).sqrt()
        c_skip, c_out, c_in = (data / total).square(), level * data / total, 1 / total
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, y)

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("x_0", self.path, self.denoised(x_t, self.path.sigma(t), y), x_t, t)
