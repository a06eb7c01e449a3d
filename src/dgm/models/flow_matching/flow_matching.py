r"""Flow matching on straight paths, an estimate of the likelihood.

.. math:: \mathcal L = E \| \hat v(x_t, t) - (\epsilon - x_0) \|^2, \qquad x_t = (1 - t) x_0 + t \epsilon

Samples solve :math:`dx / dt = \hat v(x, t)` from noise at t = 1 to data at t = 0; the density follows from the
instantaneous change of variables, with respect to Lebesgue measure, in nats.

Source: Flow Matching for Generative Modeling (Lipman et al., 2022), arXiv:2210.02747, equations 20-23 with
sigma_min = 0, appendix C. Its time runs the other way: t here is 1 - t there, and v changes its sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from dgm.distributions.scaling import Scaling
from dgm.networks.denoiser import Denoiser
from dgm.networks.embeddings import check_labels, sampled_labels
from dgm.processes.gaussian import Straight
from dgm.processes.parameterisation import Endpoints, predict
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers.change_of_variables import Field, integrated_divergence
from dgm.samplers.ode import integrate
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

EXACT_TRACE = 16  # dimensions up to which D gradients a step cost little


class FlowMatching(nn.Module):
    """Predicts the velocity of x_t.

    Example:
        >>> model = FlowMatching(Space.continuous((2,)), FlowMatching.Config())
        >>> model.log_prob_estimate(torch.zeros(3, 2))  # untrained it stands still: a standard normal
        tensor([-1.8379, -1.8379, -1.8379])
    """

    spaces: ClassVar[set[str]] = {"continuous"}
    defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3,
        "warmup": 50,
        "clip": 1.0,
        "ema": 0.995,
        "batch": 128,
    }

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        solver: Literal["euler", "heun"] = setting("heun", "of the ODE, for samples")
        sampling_steps: int = setting(30, "steps of the solver, for samples", low=1)
        likelihood_steps: int = setting(20, "Runge-Kutta steps of order 4, for the likelihood", low=1)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        self.path = Straight()
        self.network = Denoiser(space.shape, width=config.width, classes=config.classes)
        trace = "exact trace" if space.dim <= EXACT_TRACE else "stochastic trace"
        self.likelihood_method = f"ODE, {config.likelihood_steps} steps of RK4, {trace}"

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        """||v(x_t, t) - (eps - x_0)||² / D, t uniform (equation 23)."""
        x_0, y = self.scaling(x), check_labels(y, self.config.classes)
        t, eps = torch.rand(len(x), device=x.device).to(x_0), torch.randn_like(x_0)
        velocity = predict("velocity", self.path, Endpoints(x_0, eps), t)
        return (self.network(self.path.corrupt(x_0, eps, t), t, y) - velocity).square().flatten(1).mean(1)

    def log_prob_estimate(self, x: Batch, y: Labels | None = None) -> PerExample:
        """Unbiased but for the solver's error where the trace is stochastic, and only that error where it is exact."""
        x_0, y = self.scaling(x), check_labels(y, self.config.classes)
        probe = None if self.space.dim <= EXACT_TRACE else torch.randint_like(x_0, 2) * 2 - 1
        times = torch.linspace(0, 1, self.config.likelihood_steps + 1).to(x_0)
        x_1, divergence = integrated_divergence(self._velocity(y), x_0, times, "rk4", probe)
        return torch.distributions.Normal(0.0, 1.0).log_prob(x_1).flatten(1).sum(1) + divergence + self.scaling.ladj

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        *_, last = self.trajectory(n, y, seed=seed)
        return last.x

    @torch.no_grad()
    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        draw, steps = streams(n, seed, self.scaling.loc.device), self.config.sampling_steps
        y = sampled_labels(y, self.config.classes, draw)
        x_1 = draw.normal(self.space.shape).to(self.scaling.loc)
        times = torch.linspace(1, 0, steps + 1).to(x_1)
        for step, x in enumerate(integrate(self._velocity(y), x_1, times, self.config.solver), 1):
            yield State(self.scaling.inverse(x), step, steps)

    def _velocity(self, y: Labels | None) -> Field:
        return lambda x_t, t: self.network(x_t, t.expand(len(x_t)), y)
