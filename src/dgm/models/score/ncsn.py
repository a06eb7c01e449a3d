r"""Noise-conditional score network; samples, an estimate of the likelihood.

Learns :math:`s(x, \sigma) = \nabla \log q_\sigma(x)` of the data perturbed by noise of many scales, by denoising score
matching, and samples by annealed Langevin dynamics.

.. math:: \ell(\sigma) = \tfrac12 E \| \sigma s(x + \sigma\epsilon, \sigma) + \epsilon \|^2

The noise scales are points of a variance-exploding path, whose probability-flow ODE gives a density: of a continuous x
at the smallest noise scale with respect to Lebesgue measure, of a discrete x dequantised by the noise of the path, in
nats. The ODE evaluates the network between the noise scales, too.

Source: Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019), arXiv:1907.05600,
equations 5 and 6 with lambda(sigma) = sigma², algorithm 1. Differs from it: the output of the network is divided by
sigma and the largest noise scale spans the data, techniques 1 and 3 of arXiv:2006.09011; its input is divided by (1 +
sigma²)^(1/2); a final denoising step, arXiv:2006.09011, appendix B; more noise scales with 5 steps each in place of
100, and a step size 3 times as large relative to the variance. The density is that of arXiv:2011.13456, equation 39.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import VarianceExploding, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.settings import setting
from dgm.space import Space


class NCSN(GaussianDenoiser):
    """One network for the score at every noise scale.

    Example:
        >>> model = NCSN(Space.continuous((2,)), NCSN.Config(noise_scales=3, langevin_steps=1))
        >>> model.sample(4, seed=0).shape
        torch.Size([4, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        sigma_max: float = setting(5.0, "largest noise scale, for data in [-1, 1]", low=1e-6)
        sigma_min: float = setting(0.05, "smallest noise scale", low=1e-6)
        noise_scales: int = setting(20, "number of noise scales, a geometric sequence", low=2, high=100_000)
        langevin_steps: int = setting(5, "Langevin steps at each noise scale", low=1, high=100_000)
        step_size: float = setting(0.6, "Langevin step size over the variance of the noise scale", low=1e-6)
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    t_min = 1e-5  # where sigma is sigma_min; at t = 0 it is 0

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if config.sigma_min >= config.sigma_max:
            wrong = f"ncsn's sigma_min must be below sigma_max, got {config.sigma_min} and {config.sigma_max}"
            raise BadInput(wrong, "change one")
        self.path = VarianceExploding(config.sigma_min, config.sigma_max)
        self.network = self.denoiser()
        options = {"langevin_steps": config.langevin_steps, "step_size": config.step_size}
        self.sampler = SamplerConfig(
            solver="annealed_langevin", sampling_steps=config.noise_scales, spacing="log_snr", options=options
        )
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """||sigma s(x_t, sigma) + eps||² / 2D at one random noise scale, 1/2 if untrained (equations 5 and 6)."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        scales = self.config.noise_scales
        t = (torch.randint(scales, (len(x),), device=x.device) / (scales - 1)).clamp_min(self.t_min).to(x_0)
        eps = torch.randn_like(x_0)
        score = self.score(self.path.corrupt(x_0, eps, t), t, given)
        return (over(self.path.sigma(t), eps) * score + eps).square().flatten(1).mean(1) / 2

    def score(self, x_t: Tensor, t: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """The gradient of log q_sigma at x_t, in scaled units; t is (B,) with sigma = sigma_t."""
        sigma = over(self.path.sigma(t), x_t)
        return -self.network(x_t / (1 + sigma.square()).sqrt(), t, y) / sigma

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("score", self.path, self.score(x_t, t, y), x_t, t)
