"""Langevin chains and their replay buffer, which the energies that are trained by their own samples share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.modes import evaluated
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.protocols import Batch, Conditions, PerExample, State, Symptom
from dgm.samplers.langevin import langevin
from dgm.seeds import Seed, shuffled, streams
from dgm.space import Space

RESTARTED = 0.05  # share of the chains that are reinitialised with noise at each step
LARGEST_DRIFT = 0.1  # of one step, in each dimension of scaled data
APART = 4.0  # f of chains minus f of data, or the reverse, above which the chains do not reach the data
REMEDY = "lower --lr, or raise --model.langevin-steps or --model.regularisation"


class LangevinEnergy(nn.Module, ABC):
    r"""An energy E = f / T of scaled examples z, sampled by Langevin dynamics.

    The noise and the step size eta of the chains determine T = noise² / eta, so that their distribution tends to
    exp(-E) / Z as eta tends to 0. A step moves each dimension by at most `LARGEST_DRIFT` beside its noise: the gradient
    of f is clipped, so the chains deviate from exp(-E) / Z where f is steeper.

    Args:
        step_size, noise: eta and the standard deviation of the noise of one step, for scaled data.
        buffer: Chains in the replay buffer; 0 for none.
        of_chains: The space of the chains' conditions, which the buffer keeps; None for chains without one.
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    remedy = f"train again: {REMEDY}"

    replay: Tensor
    replay_y: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        condition: Space | None,
        *,
        step_size: float,
        noise: float,
        buffer: int,
        of_chains: Space | None = None,
    ) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.step_size, self.noise, self.buffer = step_size, noise, buffer
        self.marginal = None if condition is None else Marginal(condition)
        self.scaling = Scaling(space)
        if buffer:
            generator = torch.Generator().manual_seed(0)
            self.register_buffer("replay", torch.rand(buffer, *space.shape, generator=generator) * 2 - 1)
        if of_chains is not None:
            self.register_buffer("replay_y", torch.zeros(buffer, *of_chains.shape, dtype=of_chains.dtype))

    @property
    def temperature(self) -> float:
        """T of the chains; 1 for chains without noise, which descend to a minimum."""
        return self.noise**2 / self.step_size or 1.0

    @abstractmethod
    def potential(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        """f of scaled examples."""

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """f / T, in nats up to a constant, of x in the units of the data."""
        f = self.potential(self.scaling(x), check_condition(y, self.condition))
        return f / self.temperature - self.scaling.ladj

    def start(self, y: Conditions | None) -> None:
        """Gives the chains of the buffer conditions of the first batch."""
        if self.buffer and y is not None:
            self.replay_y.copy_(y[torch.arange(self.buffer, device=y.device) % len(y)])

    def continued(self, z: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor, Conditions | None]:
        """Chains of the buffer, as many as ``z`` has rows, some of them restarted from noise with the conditions y.

        Returns:
            Their rows in the buffer, their states and their conditions.
        """
        rows = shuffled(len(z), self.buffer, z.device)
        fresh = torch.rand(len(z), device=z.device) < RESTARTED
        states = torch.where(per_row(fresh, z), torch.rand_like(z) * 2 - 1, self.replay[rows])
        if y is None:
            return rows, states, None
        return rows, states, torch.where(per_row(fresh, y), y, self.replay_y[rows])

    def after_step(self, *outputs: Tensor) -> None:
        """Replaces the initial states of the chains in the buffer by their final states."""
        rows, ends, *y = outputs
        self.replay[rows] = ends
        if y:
            self.replay_y[rows] = y[0]

    @torch.no_grad()
    def diagnose(self, x: Batch, y: Conditions | None = None) -> dict[str, Symptom]:
        """How far f of the data lies below f of the chains in the buffer; near 0 where the chains reach the data."""
        if not self.buffer:
            return {}
        n = min(len(x), self.buffer)
        chains = self.potential(self.replay[:n], None if y is None else self.replay_y[:n]).mean()
        gap = float(chains - self.potential(self.scaling(x), y).mean())
        warning = f"energies of data and chains lie {gap:.3g} apart, since the chains do not reach the data: {REMEDY}"
        return {"energy gap": Symptom(gap), "size of the energy gap": Symptom(abs(gap), APART, warning)}

    def score(self, z: Tensor, y: Conditions | None = None) -> Tensor:
        """-df/dz without gradient of the weights."""
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.potential(z, y).sum(), z)
        return -gradient

    def chain(
        self, z: Tensor, y: Conditions | None, langevin_steps: int, noise: Callable[[], Tensor]
    ) -> Iterator[Tensor]:
        steepest = 2 * LARGEST_DRIFT / self.step_size
        yield from langevin(
            lambda at: self.score(at, y).clamp(-steepest, steepest),
            z,
            langevin_steps=langevin_steps,
            step_size=self.step_size,
            noise=noise,
            temperature=self.noise**2 / self.step_size,
        )

    def end(self, z: Tensor, y: Conditions | None) -> Tensor:
        """The final state of chains of training that start from z."""
        *_, last = self.chain(z, y, self.config.langevin_steps, lambda: torch.randn_like(z))
        return last

    @evaluated
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """A Langevin chain from uniform noise."""
        noise = streams(n, seed, self.scaling.loc.device)
        y = sampled_condition(y, self, noise)
        start = noise.uniform(self.space.shape) * 2 - 1
        steps = self.config.sampling_steps
        for k, z in enumerate(self.chain(start, y, steps, lambda: noise.normal(self.space.shape)), 1):
            yield State(self.scaling.inverse(self.finished(z, y) if k == steps else z), k, steps)

    def finished(self, z: Tensor, y: Conditions | None) -> Tensor:
        """The sample that a chain's final state z gives: z itself."""
        return z

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        *_, last = self.trajectory(n, y, seed=seed)
        return last.x


def per_row(rows: Tensor, like: Tensor) -> Tensor:
    """(B,) in a shape that broadcasts against (B, ...)."""
    return rows.view(-1, *[1] * (like.ndim - 1))


def default_noise(step_size: float, temperature: float) -> float:
    """The standard deviation of a step's noise at a temperature."""
    return math.sqrt(step_size * temperature)
