r"""Score-based diffusion in continuous time, an estimate of the likelihood.

The forward SDE :math:`dx = f(t) x dt + g(t) dw` takes data to noise; its reverse needs only the score. The score
:math:`s(x_t, t) = \nabla \log q_t(x_t)` is learnt by

.. math:: \tfrac12 E_t\, \lambda(t)\, E \| s(x_t, t) + \epsilon / \sigma_t \|^2,
    \qquad \lambda = \sigma_t^2 \text{ or } g(t)^2

where lambda = g² gives, up to a constant, the mean of an upper bound on -log p_0(x_0), in nats per dimension; t is then
importance-sampled with constant weights. Samples use a predictor-corrector, or any solver; the density follows from the
probability-flow ODE, of a continuous x with respect to Lebesgue measure, of a discrete x dequantised by the noise of
the path, in nats.

On the variance-exploding path it equals `NCSN`, and on the variance-preserving path `DDPM` with a linear schedule: the
networks have the same parameterisation, so the weights are exchangeable.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equations 7, 13 and 29-33;
lambda = g², Maximum Likelihood Training of Score-Based Diffusion Models (Song et al., 2021), arXiv:2101.09258, theorem
1 and section 4.4.
Differs from it: the input of the network is divided by (alpha_t² + sigma_t²)^(1/2) on every path; variance-preserving
paths begin at t = 0.001 in training as in sampling; the largest noise of the exploding one is 50 for data in [-1, 1];
the predicted x_0 is clamped to the range of bounded data in samples; a smaller U-Net.
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
    """A network for the score at every time.

    Example:
        >>> model = ScoreSDE(Space.continuous((2,)), ScoreSDE.Config(path="sub_vp"))
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        path: Literal["ve", "vp", "sub_vp"] = setting("vp", "variance exploding, preserving, or sub-VP")
        weighting: Literal["sigma2", "likelihood"] = setting("sigma2", "weighting of times: sigma², or g²")
        sigma_min: float = setting(0.01, "smallest noise of the variance-exploding path", low=1e-6)
        sigma_max: float = setting(50.0, "largest noise of the variance-exploding path", low=1e-6)
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(200, "sampling steps of predictor and corrector", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
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
        """½ lambda ||s(x_t, t) + eps / sigma_t||² / D at a random t (equation 7); ½ untrained if lambda = sigma²."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        t, weight = self.times(x_0.new_empty(len(x_0)).uniform_())
        eps = torch.randn_like(x_0)
        score = self.score(self.path.corrupt(x_0, eps, t), t, given)
        return weight * (over(self.path.sigma(t), eps) * score + eps).square().flatten(1).mean(1) / 2

    def times(self, u: Tensor) -> tuple[Tensor, Tensor]:
        r"""The times of uniform u in [0, 1), and their weights lambda / sigma².

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
