r"""Energy matching: one potential that transports noise to the data, and is the energy of the data near it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dgm.models.energy.base import LangevinEnergy, default_noise, per_row
from dgm.models.flow_matching.ot_cfm import pairs, pairs_within
from dgm.modes import evaluated
from dgm.networks.conditions import check_condition, sampled_condition
from dgm.networks.energy import EnergyNetwork
from dgm.networks.step_count import CountsSteps
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

SWITCH = 0.9  # tau*, the time from which chains have noise
TRANSPORTED = 0.05  # dt of a step before it


class Weights(NamedTuple):
    """The settings whose defaults differ between points and images."""

    warmup: int
    contrast: float
    temperature: float


POINTS, IMAGES = Weights(200, 120.0, 0.3), Weights(700, 1.0, 0.05)


class EnergyMatching(CountsSteps, LangevinEnergy):
    r"""One time-independent potential V; an unnormalised log-likelihood.

    .. math::
        L = w(t) \| \nabla V(x_t) + x_1 - x_0 \|^2 / D + \lambda (V(x_1) - V(x^-)), \qquad x_t = (1 - t) x_0 + t x_1

    x_1 is scaled data, x_0 ~ N(0, s² I), paired with it in each batch by optimal transport. Time runs from noise at 0
    to data at 1, as in the source. Far from the data -grad V is the velocity of the transport. Samples follow

    .. math:: dx = -\nabla V(x) \, dt + \sqrt{2 \epsilon(t)} \, dW,

    with epsilon = 0 up to tau* = 0.9, then rising linearly to epsilon_max at t = 1, where the stationary density is
    exp(-V / epsilon_max) / Z. The second term makes it that of the data, once the first ``warmup`` steps have trained
    the transport alone: x^- are final states of the same dynamics, a quarter of which start from noise, and the others
    from data at t = 1. With it w falls linearly from 1 at tau* to 0 at t = 1.

    Source: Energy Matching (Balcerak et al., 2025), arXiv:2504.10612, sections 3 and 4 and algorithms 1 and 2, and the
    code of its authors. Differs from it: s = 2, since N(0, I) overlaps data in few dimensions; the pairs are the
    optimal assignment; steps of the transport are longer than those with noise; a quarter and not a half of the chains
    starts from noise; in few dimensions the contrast has a larger weight, since there the transport's slopes are not
    those of the density.

    Args:
        space: Any space but tokens.

    Example:
        >>> model = EnergyMatching(Space.continuous((2,)), EnergyMatching.Config())
        >>> model.energy(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(
            32, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )
        spread: float = setting(2.0, "s, standard deviation of the noise, for scaled data", low=1e-3)
        warmup: int | None = setting(None, "training steps of the transport alone (200; of images 700)", low=0)
        contrast: float | None = setting(None, "lambda, weight of the contrast (120; of images 1)", low=0.0)
        temperature: float | None = setting(
            None, "epsilon_max, temperature at the data (0.3; of images 0.05)", low=1e-6
        )
        step_size: float = setting(0.01, "dt of a step with noise", low=1e-6)
        langevin_steps: int = setting(30, "steps of the chains in each training step", low=1, high=100_000)
        sampling_steps: int = setting(300, "steps of a sample, the first 18 of them without noise", low=1, high=100_000)

    defaults: ClassVar[dict[str, Any]] = {"batch": 128, "lr": 2e-3, "ema": 0.99, "clip": 1.0, "select": "last"}

    counter: ClassVar[str] = "trained"
    trained: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        own = {name: value for name in Weights._fields if (value := getattr(config, name)) is not None}
        self.weights = (IMAGES if len(space.shape) == 3 else POINTS)._replace(**own)
        eta = 2 * config.step_size  # of Langevin dynamics with the score of exp(-V / epsilon)
        noise = default_noise(eta, self.weights.temperature)
        super().__init__(space, config, condition, step_size=eta, noise=noise, buffer=0)
        self.network = EnergyNetwork(space.shape, config.width, condition, bias=False)
        self.register_counter()

    def potential(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return self.network(z, y)

    # -- training

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The transport's squared error, and after the warm-up the difference of V between data and chains."""
        y, x_1 = check_condition(y, self.condition), self.scaling(x)
        x_0, t = self.config.spread * torch.randn_like(x_1), torch.rand(len(x_1), device=x_1.device).to(x_1)
        x_0 = x_0[pairs(x_1, x_0) if y is None else pairs_within(x_1, x_0, y)]
        transport = self.transport_error(x_0, x_1, t, y)
        if int(self.trained) < self.weights.warmup or not self.weights.contrast:
            return transport
        ends = self.negatives(x_1, y)
        both = None if y is None else torch.cat([y, y])
        positive, negative = self.potential(torch.cat([x_1, ends]), both).chunk(2)
        return (1 - rise(t)) * transport + self.weights.contrast * (positive - negative)

    def transport_error(self, x_0: Tensor, x_1: Tensor, t: Tensor, y: Conditions | None) -> PerExample:
        with torch.enable_grad():
            x_t = torch.lerp(x_0, x_1, per_row(t, x_1)).requires_grad_()
            (gradient,) = torch.autograd.grad(self.potential(x_t, y).sum(), x_t, create_graph=True)
        return (gradient + x_1 - x_0).square().flatten(1).mean(1)

    def after_step(self, *outputs: Tensor) -> None:
        """Counts the steps, of which the first have no chains."""
        self.trained += 1

    def negatives(self, x_1: Tensor, y: Conditions | None) -> Tensor:
        """Final states: of the first quarter of the batch from noise at t = 0, of the others from data at t = 1."""
        t = (torch.arange(len(x_1), device=x_1.device) >= len(x_1) // 4).to(x_1)
        start = torch.where(per_row(t, x_1) > 0, x_1, self.config.spread * torch.randn_like(x_1))
        *_, ends = self.dynamics(start, y, t, self.config.langevin_steps, lambda: torch.randn_like(x_1))
        return ends

    # -- sampling

    def dynamics(
        self, x: Tensor, y: Conditions | None, t: Tensor, steps: int, noise: Callable[[], Tensor]
    ) -> Iterator[Tensor]:
        """Yields the states after each step, from times t (B,)."""
        for _ in range(steps):
            dt = torch.where(t < SWITCH, TRANSPORTED, self.config.step_size).to(x)
            t = t + dt
            deviation = (2 * dt * self.temperature * rise(t)).sqrt()
            x = x + per_row(dt, x) * self.score(x, y) + per_row(deviation, x) * noise()
            yield x

    @evaluated
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        draw, steps = streams(n, seed, self.scaling.loc.device), self.config.sampling_steps
        y = sampled_condition(y, self, draw)

        def noise() -> Tensor:
            return draw.normal(self.space.shape).to(self.scaling.loc)

        start = self.config.spread * noise()
        for k, x in enumerate(self.dynamics(start, y, start.new_zeros(n), steps, noise), 1):
            yield State(self.scaling.inverse(x), k, steps)


def rise(t: Tensor) -> Tensor:
    """epsilon(t) / epsilon_max."""
    return ((t - SWITCH) / (1 - SWITCH)).clamp(0, 1)
