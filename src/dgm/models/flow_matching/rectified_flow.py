r"""Rectified flow: flow matching with a reflow on its own samples, which straightens its paths; an estimate of the
likelihood.

In the first phase it is `FlowMatching` with independent pairs. Then the EMA of its weights is frozen as a teacher, and
pairs are noise and the solution of the teacher's ODE:

.. math:: \min_v \int_0^1 E \| (Z_1 - Z_0) - v(Z_t, t) \|^2 dt, \qquad Z_t = t Z_1 + (1 - t) Z_0,
    \qquad Z_0 = \mathrm{ODE}(Z_1)

These lines do not cross, so the second flow follows them, and one Euler step is almost as accurate as many. Density and
samples are those of `FlowMatching`, in nats.

Source: Flow Straight and Fast (Liu et al., 2022), arXiv:2209.03003, section 2 and algorithm 1. Its time is
reversed.
Differs from it: one reflow, which continues the training of the same network; pairs are generated during training,
each used 4 times in a batch, where the paper generates a data set of them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from dgm.models.flow_matching.flow_matching import FlowMatching
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.networks.step_count import CountsSteps
from dgm.processes.parameterisation import Prediction
from dgm.protocols import Batch, Conditions, Model, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig, denoiser
from dgm.samplers.ode import integrate
from dgm.samplers.probability_flow import velocity
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

TEACHER_STEPS = 8  # steps of Heun's method for the teacher
USES = 4  # uses of a pair in a batch, each at another time
DECAY = 0.995  # of the EMA of the teacher


class RectifiedFlow(CountsSteps, GaussianDenoiser):
    """Predicts the velocity of x_t; its teacher and the current training step are stored with its weights.

    Example:
        >>> model = RectifiedFlow(Space.continuous((2,)), RectifiedFlow.Config())
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    step: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        reflow_after: int = setting(1000, "training steps before the reflow", low=1)
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(4, "sampling steps of Euler's method", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        chosen = FlowMatching.Config(width=config.width, condition_dropout=config.condition_dropout)
        self.matching = FlowMatching(space, chosen, condition)
        self.matching.marginal = None  # conditions are drawn by the outer model
        self.teacher = copy.deepcopy(self.matching.network).requires_grad_(False)
        self.register_counter()
        self.path, self.t_min = self.matching.path, self.matching.t_min
        self.sampler = SamplerConfig(solver="euler", sampling_steps=config.sampling_steps)
        self.likelihood_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """||v(x_t, t) - (eps - x_0)||² / D, where x_0 is data, or after the reflow the teacher's sample."""
        if self.step < self.config.reflow_after:
            return self.matching.loss(x, y)
        y = self.checked(y)
        x_0, eps, y = self.pairs(torch.randn_like(self.scaling(x)), y)
        return self.matching.loss_of_pairs(x_0, eps, self.partly_hidden(y))

    @torch.no_grad()
    def after_step(self, *outputs: Tensor) -> None:
        """Counts training steps; until the reflow, the teacher is the EMA of the network."""
        self.step += 1
        k = int(self.step)
        if k < self.config.reflow_after:
            decay = min(DECAY, (1 + k) / (10 + k))
            learnt: list[Tensor] = list(self.matching.network.parameters())
            torch._foreach_lerp_(list(self.teacher.parameters()), learnt, 1 - decay)

    @torch.no_grad()
    def pairs(self, eps: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor, Conditions | None]:
        """As many pairs as eps, from a quarter of eps and the teacher's samples of it, with their conditions."""
        n, made = len(eps), -(-len(eps) // USES)
        eps, y = eps[:made], None if y is None else y[:made]
        times = torch.linspace(1, 0, TEACHER_STEPS + 1, dtype=eps.dtype)  # on the CPU, as the step counter

        def flow(x: Tensor, t: Tensor) -> Tensor:
            return self.teacher(x, t.to(x.device, non_blocking=True).expand(made), y)

        *_, x_0 = integrate(flow, eps, times, "heun")
        row = torch.arange(n, device=eps.device) % made
        return x_0[row], eps[row], None if y is None else y[row]

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return self.matching.predict(x_t, t, y)


@torch.no_grad()
def straightness(
    model: Model, n: int = 1000, y: Conditions | None = None, *, seed: Seed = 0, sampling_steps: int = 50
) -> float:
    r"""The straightness of a model's paths per dimension, 0 for straight lines at constant speed.

    .. math:: S = \int_0^1 E \| (Z_1 - Z_0) - \dot Z_t \|^2 dt \,/\, D

    Source: arXiv:2209.03003, section 2.2, by the trapezium rule over the states of a Runge-Kutta solver of order 4.

    Args:
        model: A `dgm.protocols.Denoising` whose velocity is finite at t = 0.
    """
    v = velocity(denoiser(model, y), model.path)
    start = streams(n, seed, model.scaling.loc.device).normal(model.space.shape).to(model.scaling.loc)
    start = start * model.path.sigma(start.new_ones(()))
    times = torch.linspace(1, model.t_min, sampling_steps + 1).to(start)
    states = [start, *integrate(v, start, times, "rk4")]
    chord = (start - states[-1]) / (1 - model.t_min)
    off = [(chord - v(x, t)).square().mean() for x, t in zip(states, times, strict=True)]
    return torch.trapezoid(torch.stack(off), -times).item() / (1 - model.t_min)
