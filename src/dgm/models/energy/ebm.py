r"""Energy-based model trained by contrastive divergence with a replay buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dgm.distributions.scaling import Scaling
from dgm.networks.conv import sizes
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.samplers.langevin import langevin
from dgm.seeds import Seed, shuffled, streams
from dgm.settings import setting
from dgm.space import Space

RESTARTED = 0.05  # share of the chains that are reinitialised with noise at each step


class EBM(nn.Module):
    r"""Energy-based model; an unnormalised log-likelihood.

    .. math::
        p(z) = e^{-f(z) / T} / Z, \qquad L = f(z^+) - f(z^-) + \alpha (f(z^+)^2 + f(z^-)^2)

    z is the scaled x; z+ is data with a little noise, z- the final states of Langevin chains that start from a replay
    buffer. The noise and the step size of the chains determine the temperature T = noise² / step_size, so that their
    distribution tends to p as the step size tends to 0; `energy` is E = f / T, in nats. T is small, 1.25e-4 by default,
    so energies differ by thousands of nats. L is T times the contrastive divergence, and no likelihood.

    On discrete spaces E is evaluated at the grey levels, and samples are rounded; exp(-E) is normalised by a sum over
    all x, on continuous spaces by an integral.

    Source: Implicit Generation and Modeling with Energy-Based Models (Du & Mordatch, 2019), arXiv:1903.08689, equation
    2 and algorithm 1. Differs from it: the noise of the chains is smaller than that of T = 1 for their step size (as in
    its code), and each component of the gradient of f is clipped to [-1, 1], so that the chains deviate from p where f
    is steeper.

    Args:
        space: Any space but tokens.

    Example:
        >>> ebm = EBM(Space.continuous((2,)), EBM.Config())
        >>> ebm.energy(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(
            32, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )
        langevin_steps: int = setting(20, "Langevin steps of the chains in each training step", low=1, high=100_000)
        sampling_steps: int = setting(300, "Langevin steps of a sample", low=1, high=100_000)
        step_size: float = setting(0.2, "step size eta of the chains, for scaled data", low=1e-6)
        noise: float = setting(0.005, "standard deviation of the noise of each step, for scaled data", low=0.0)
        data_noise: float = setting(0.03, "standard deviation of the noise added to scaled data", low=0.0)
        regularisation: float = setting(0.1, "alpha, weight of the squared energies", low=0.0)
        buffer: int = setting(1024, "chains in the replay buffer", low=1)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "lr": 5e-4,
        "betas": (0.0, 0.999),
        "ema": 0.99,
        "clip": 0.1,
        "select": "last",
    }

    replay: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        self.network = energy_network(space, config.width)
        generator = torch.Generator().manual_seed(0)
        start = torch.rand(config.buffer, *space.shape, generator=generator) * 2 - 1
        self.register_buffer("replay", start)

    @property
    def temperature(self) -> float:
        """T of the chains; 1 for chains without noise, which descend to a minimum."""
        return self.config.noise**2 / self.config.step_size or 1.0

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """f / T, in nats up to a constant."""
        return self.network(self.scaling(x))[:, 0] / self.temperature

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The difference of f between data and Langevin chains from the replay buffer."""
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, the indices of the chains in the replay buffer, and their final states."""
        z = self.scaling(x)
        z = z + self.config.data_noise * torch.randn_like(z)
        rows = shuffled(len(z), self.config.buffer, z.device)
        fake = self.replay[rows]
        fresh = torch.rand(len(z), device=z.device) < RESTARTED
        fake = torch.where(fresh.view(-1, *[1] * (z.dim() - 1)), torch.rand_like(z) * 2 - 1, fake)
        for state in self.chain(fake, self.config.langevin_steps, lambda: torch.randn_like(z)):
            fake = state
        positive, negative = self.network(torch.cat([z, fake]))[:, 0].chunk(2)
        loss = positive - negative + self.config.regularisation * (positive.square() + negative.square())
        return loss, (rows, fake)

    def after_step(self, *outputs: Tensor) -> None:
        """Replaces the initial states of the chains in the buffer by their final states."""
        rows, ends = outputs
        self.replay[rows] = ends

    def score(self, z: Tensor) -> Tensor:
        """-df/dz, clipped to [-1, 1] elementwise, without gradient of the weights."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(z).sum(), z)
        return -gradient.clamp(-1, 1)

    def chain(self, z: Tensor, langevin_steps: int, noise: Any) -> Iterator[Tensor]:
        eta = self.config.step_size
        how = {"step_size": eta, "temperature": self.config.noise**2 / eta}
        yield from langevin(self.score, z, langevin_steps=langevin_steps, noise=noise, **how)

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """A Langevin chain from uniform noise."""
        noise = streams(n, seed, self.replay.device)
        start = noise.uniform(self.space.shape) * 2 - 1
        sampling_steps = self.config.sampling_steps
        for k, z in enumerate(self.chain(start, sampling_steps, lambda: noise.normal(self.space.shape)), 1):
            yield State(self.scaling.inverse(z), k, sampling_steps)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        for state in self.trajectory(n, y, seed=seed):
            x = state.x
        return x


def energy_network(space: Space, width: int) -> nn.Module:
    """A network with one output: strided convolutions for images, a perceptron otherwise."""
    if len(space.shape) != 3:
        return nn.Sequential(nn.Flatten(), mlp([space.dim, *[4 * width] * 3, 1]))
    return EnergyNet(space.shape, width)


class EnergyNet(nn.Module):
    """Strided convolutions with smooth activations and without normalisation, since its gradient is the score."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        path = sizes(shape[1], shape[2])
        widths = [width * 2**k for k in range(len(path))]
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.hidden = nn.Linear(widths[-1] * path[0][0] * path[0][1], 4 * width)
        self.last = nn.Linear(4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.first(x))
        for conv in self.convs:
            h = silu(conv(h))
        return self.last(silu(self.hidden(h.flatten(1))))
