r"""Mean flow: the average velocity between two times, samples in one step, an estimate of the likelihood.

.. math:: u(z_t, r, t) = \frac{1}{t - r} \int_r^t v(z_\tau, \tau)\, d\tau, \qquad z_r = z_t - (t - r)\, u(z_t, r, t)

Differentiating it along the path gives the identity that it is trained on; at r = t it equals the velocity:

.. math:: u = v - (t - r) \frac{du}{dt}, \qquad \frac{du}{dt} = v\, \partial_z u + \partial_t u

with a stop-gradient on the right side and v = eps - x of one pair. The density follows from the velocity u(z, t, t) by
the probability-flow ODE, of a continuous x with respect to Lebesgue measure, of a discrete one dequantised by the
path's own noise, in nats.

Source: Mean Flows for One-step Generative Modeling (Geng et al., 2025), arXiv:2505.13447, equations 3-11, 12 and 22,
algorithms 1 and 2, without guidance; the network is conditioned on t and t - r. Its time is that of dgm.
Differs from it: the loss is 2 (||.||² + c)^(1/2), whose gradient is that of the paper's weighted squares with p = 1/2
but which decreases in training, and times are uniform: p = 1 and logistic-normal times are slightly better on ImageNet
(the paper's table 1), but double the error for points in the plane. A small U-Net or a perceptron.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.modes import evaluated
from dgm.networks.conditions import sampled_condition
from dgm.processes.gaussian import Straight, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample, State
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

SMALLEST = 1e-3  # c of the loss
TIME_SCALE = 0.01  # factor of the times for the network, whose sinusoidal embedding is made for steps of 1/1000


class MeanFlow(GaussianDenoiser):
    """Predicts the average velocity. ``sampler`` integrates u(z, t, t), the instantaneous velocity.

    Example:
        >>> model = MeanFlow(Space.continuous((2,)), MeanFlow.Config())
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        apart: float = setting(0.25, "share of examples whose two times differ", low=0.0, high=1.0)
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(1, "sampling steps", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    path, t_min = Straight(), 0.0

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.network = self.denoiser(times=2)
        self.sampler = SamplerConfig(solver="heun", sampling_steps=30)
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """2 (||u - (v - (t - r) du/dt)||² + c)^(1/2) (equations 9-11 and 22)."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        r, t = self.times(x_0)
        eps = torch.randn_like(x_0)
        error = self.error(self.path.corrupt(x_0, eps, t), r, t, eps - x_0, given)
        return 2 * (error.square().flatten(1).sum(1) + SMALLEST).sqrt()

    def times(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """r <= t for each x, the minimum and maximum of two uniform times, equal except for a share ``apart``."""
        both = torch.rand(len(x), 2, device=x.device).to(x)
        r, t = both.amin(1), both.amax(1)
        return torch.where(torch.rand(len(x), device=x.device) < self.config.apart, r, t), t

    def error(self, z_t: Tensor, r: Tensor, t: Tensor, v: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """The difference of u and its target from v and du/dt, without gradient through the target."""

        def u_of(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
            return self.average_velocity(z, r, t, y)

        # the only attention kernel with a forward-mode derivative
        with sdpa_kernel(SDPBackend.MATH):
            u, derivative, *_ = torch.func.jvp(u_of, (z_t, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
        return u - (v - over(t - r, v) * derivative).detach()

    def average_velocity(self, z_t: Tensor, r: Tensor, t: Tensor, y: Conditions | PartlyHidden | None = None) -> Tensor:
        """u(z_t, r, t) with times (B,)."""
        return self.network(z_t, TIME_SCALE * torch.stack([t, t - r], dim=1), y)

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("velocity", self.path, self.average_velocity(x_t, t, t, y), x_t, t)

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        *_, last = self.trajectory(n, y, seed=seed)
        return last.x

    @evaluated
    @torch.no_grad()
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """From noise to data in equal time steps along the average velocity (equation 12)."""
        loc, sampling_steps = self.scaling.loc, self.config.sampling_steps
        draw = streams(n, seed, loc.device)
        y = sampled_condition(y, self, draw)
        z = draw.normal(self.space.shape).to(loc)
        times = torch.linspace(1, 0, sampling_steps + 1).to(loc)
        for step, (t, r) in enumerate(pairwise(times), 1):
            z = z - (t - r) * self.average_velocity(z, r.expand(n), t.expand(n), y)
            yield State(self.scaling.inverse(z), step, sampling_steps)
