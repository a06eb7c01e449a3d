r"""Flow matching: the velocity of a path from data to noise, an estimate of the likelihood.

.. math:: \mathcal L = E \| \hat v(x_t, t) - (\dot\alpha_t x_0 + \dot\sigma_t \epsilon) \|^2, \qquad
    x_t = \alpha_t x_0 + \sigma_t \epsilon

On the straight path the velocity is :math:`\epsilon - x_0`, at constant speed. Samples solve
:math:`dx / dt = \hat v(x, t)` from noise at t = 1 to data at t = 0; the density follows from the instantaneous change
of variables, of a continuous x with respect to Lebesgue measure, of a discrete one dequantised by the path's own noise,
in nats.

Source: Flow Matching for Generative Modeling (Lipman et al., 2022), arXiv:2210.02747, equations 20-23 with
sigma_min = 0, appendix C; the variance-preserving path, equations 18 and 19. Its time is reversed: t here is 1 - t
there, and v has the opposite sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import GaussianPath, LinearVP, Straight
from dgm.processes.parameterisation import Prediction, prediction, quantity
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.settings import setting
from dgm.space import Space

PATHS: dict[str, Callable[[], GaussianPath]] = {"straight": Straight, "variance_preserving": LinearVP}


class FlowMatching(GaussianDenoiser):
    """Predicts the velocity of x_t.

    Example:
        >>> model = FlowMatching(Space.continuous((2,)), FlowMatching.Config())
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        path: Literal["straight", "variance_preserving"] = setting("straight", "probability path")
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        solver: Literal["euler", "heun"] = setting("heun", "ODE solver for samples")
        sampling_steps: int = setting(30, "sampling steps of the solver", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.path = PATHS[config.path]()
        self.t_min = 0.0 if config.path == "straight" else 1e-3  # the other path's velocity is unbounded at 0
        self.network = self.denoiser()
        self.sampler = SamplerConfig(solver=config.solver, sampling_steps=config.sampling_steps)
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """||v(x_t, t) - d x_t / dt||² / D, t uniform (equation 23)."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        eps = torch.randn_like(x_0)
        return self.loss_of_pairs(x_0, eps, given)

    def loss_of_pairs(self, x_0: Tensor, eps: Tensor, y: Conditions | PartlyHidden | None = None) -> PerExample:
        """The loss of given pairs of scaled data and noise."""
        t = self.t_min + (1 - self.t_min) * torch.rand(len(x_0), device=x_0.device).to(x_0)
        x_t, velocity = self.path.corrupt(x_0, eps, t), quantity("velocity", self.path, x_0, eps, t)
        return (self.network(x_t, t, y) - velocity).square().flatten(1).mean(1)

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("velocity", self.path, self.network(x_t, t, y), x_t, t)
