r"""Score-based diffusion in continuous time, an estimate of the likelihood.

The data become noise by :math:`dx = f(t) x dt + g(t) dw`, which has a reverse that needs the score alone. Learnt is
:math:`s(x_t, t) = \nabla \log q_t(x_t)` by

.. math:: \tfrac12 E_t\, \lambda(t)\, E \| s(x_t, t) + \epsilon / \sigma_t \|^2,
    \qquad \lambda = \sigma_t^2 \text{ or } g(t)^2

where lambda = g² makes it, but for what no score changes, the mean of an upper bound on -log p_0(x_0), in nats a
dimension; t is then drawn so that its weights are all alike. Samples come by predictor and corrector, or by any solver;
the density follows from the probability-flow ODE, of a continuous x with respect to Lebesgue measure, of a discrete one
dequantised by the path's own noise, in nats.

It is `NCSN` where the path explodes, and `DDPM` with its linear schedule where it preserves variance: the networks are
asked alike, and the weights of one fit the other.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equations 7, 13 and 29-33;
lambda = g², Maximum Likelihood Training of Score-Based Diffusion Models (Song et al., 2021), arXiv:2101.09258, theorem
1 and section 4.4.
Differs from it: the network's input is divided by (alpha_t² + sigma_t²)^(1/2) on every path; the paths that preserve
variance begin at t = 0.001 in training as in sampling; the strongest noise of the exploding one is 50 times data in
[-1, 1]; x_0 as predicted is clamped to the data's range in samples, where it has one; a smaller U-Net.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import GaussianPath, LinearVP, SubVP, VarianceExploding, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.settings import setting
from dgm.space import Space


class ScoreSDE(GaussianDenoiser):
    """The score at every time.

    Example:
        >>> model = ScoreSDE(Space.continuous((2,)), ScoreSDE.Config(path="sub_vp"))
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        path: Literal["ve", "vp", "sub_vp"] = setting("vp", "variance explodes, is preserved, or stays below that")
        weighting: Literal["sigma2", "likelihood"] = setting("sigma2", "of times: the noise's variance, or g²")
        sigma_min: float = setting(0.01, "the weakest noise of the path that explodes", low=1e-6)
        sigma_max: float = setting(50.0, "the strongest noise of the path that explodes", low=1e-6)
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(200, "steps of predictor and corrector, for samples", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "share of conditions hidden in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if config.sigma_min >= config.sigma_max:
            wrong = f"score_sde's sigma_min must be below sigma_max, got {config.sigma_min} and {config.sigma_max}"
            raise BadInput(wrong, "change one")
        paths: dict[str, Callable[[], GaussianPath]] = {
            "ve": lambda: VarianceExploding(config.sigma_min, config.sigma_max),
            "vp": LinearVP,
            "sub_vp": SubVP,
        }
        self.path = paths[config.path]()
        self.t_min = 1e-5 if config.path == "ve" else 1e-3
        self.network = self.denoiser()
        self.sampler = SamplerConfig(solver="predictor_corrector", sampling_steps=config.sampling_steps, clamp=True)
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """½ lambda ||s(x_t, t) + eps / sigma_t||² / D of one t (equation 7); ½ untrained with lambda = sigma²."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        t, weight = self.times(x_0.new_empty(len(x_0)).uniform_())
        eps = torch.randn_like(x_0)
        score = self.score(self.path.corrupt(x_0, eps, t), t, given)
        return weight * (over(self.path.sigma(t), eps) * score + eps).square().flatten(1).mean(1) / 2

    def times(self, u: Tensor) -> tuple[Tensor, Tensor]:
        r"""The times that belong to u, uniform on [0, 1), and what lambda / sigma² then weighs.

        With lambda = g² that ratio is the speed -2 d lambda_t / dt of the half log-SNR, so times at which this one is
        uniform have all the same weight.
        """
        if self.config.weighting == "sigma2":
            return self.t_min + (1 - self.t_min) * u, torch.ones_like(u)
        first, last = self.path.half_log_snr(torch.tensor([self.t_min, 1.0], dtype=torch.float64)).to(u)
        return self.path.time_of(first + (last - first) * u).clamp_min(self.t_min), 2 * (first - last)

    def score(self, x_t: Tensor, t: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """The gradient of log q_t at x_t, in scaled units; t is (B,)."""
        alpha, sigma = self.path.alpha(over(t, x_t)), self.path.sigma(over(t, x_t))
        return -self.network(x_t / (alpha.square() + sigma.square()).sqrt(), t, y) / sigma

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("score", self.path, self.score(x_t, t, y), x_t, t)
