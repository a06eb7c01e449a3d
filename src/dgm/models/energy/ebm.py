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
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

RESTARTED = 0.05  # share of the chains that start from noise again at each step


class EBM(nn.Module):
    r"""Energy network; its likelihood is unnormalised.

    .. math::
        p(z) = e^{-f(z) / T} / Z, \qquad L = f(z^+) - f(z^-) + \alpha (f(z^+)^2 + f(z^-)^2)

    z is x scaled; z+ are data with a little noise, z- the ends of Langevin chains that go on from a buffer of earlier
    ends. The chains' noise and step size set the temperature T = noise² / step_size, so that they tend to p as the step
    tends to 0; `energy` is E = f / T, in nats, the energy of the density that they sample. T is small, 1.25e-4 by
    default, so energies are thousands of nats apart. L is T times the contrastive divergence of that density, and no
    likelihood.

    On levels E is that of the level's own point, and a sampled z is rounded to the nearest one; then exp(-E) over all x
    is normalised by a sum, on continuous spaces by an integral.

    Source: Implicit Generation and Modeling with Energy-Based Models (Du & Mordatch, 2019), arXiv:1903.08689, equation
    2 and algorithm 1. Differs from it: the noise of the chains is smaller than their step asks for at T = 1 (the
    practice of its code), and each component of the gradient of f is clipped to [-1, 1], so that the chains do not
    follow p where f is steeper.

    Args:
        space: Any but tokens.

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
        langevin_steps: int = setting(20, "steps of each chain at each training step", low=1, high=100_000)
        sampling_steps: int = setting(300, "steps of a chain from noise to a sample", low=1, high=100_000)
        step_size: float = setting(0.2, "eta of the chains, on the scaled axis", low=1e-6)
        noise: float = setting(0.005, "standard deviation of each step's noise, on the scaled axis", low=0.0)
        data_noise: float = setting(0.03, "standard deviation of the noise on data, on the scaled axis", low=0.0)
        regularisation: float = setting(0.1, "alpha, of the energies' squares", low=0.0)
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
        """T of the chains; 1 for those without noise, which descend to a minimum and sample no density."""
        return self.config.noise**2 / self.config.step_size or 1.0

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """f / T, in nats up to a constant."""
        return self.network(self.scaling(x))[:, 0] / self.temperature

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The difference of f, between data and chains that go on from the buffer."""
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, and the rows of the buffer that the chains went on from, with the chains' ends."""
        z = self.scaling(x)
        z = z + self.config.data_noise * torch.randn_like(z)
        rows = torch.randperm(self.config.buffer, device=z.device)[: len(z)].repeat(-(-len(z) // self.config.buffer))[
            : len(z)
        ]
        fake = self.replay[rows]
        fresh = torch.rand(len(z), device=z.device) < RESTARTED
        fake = torch.where(fresh.view(-1, *[1] * (z.dim() - 1)), torch.rand_like(z) * 2 - 1, fake)
        for state in self.chain(fake, self.config.langevin_steps, lambda: torch.randn_like(z)):
            fake = state
        positive, negative = self.network(torch.cat([z, fake]))[:, 0].chunk(2)
        loss = positive - negative + self.config.regularisation * (positive.square() + negative.square())
        return loss, (rows, fake)

    def after_step(self, *outputs: Tensor) -> None:
        """The chains' ends replace their starts in the buffer."""
        rows, ends = outputs
        self.replay[rows] = ends

    def score(self, z: Tensor) -> Tensor:
        """-df/dz, each example's clipped to [-1, 1] elementwise; the weights get no gradient."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(z).sum(), z)
        return -gradient.clamp(-1, 1)

    def chain(self, z: Tensor, steps: int, noise: Any) -> Iterator[Tensor]:
        eta = self.config.step_size
        temperature = self.config.noise**2 / eta
        yield from langevin(self.score, z, steps=steps, step_size=eta, noise=noise, temperature=temperature)

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """A chain from uniform noise."""
        noise = streams(n, seed, self.replay.device)
        start = noise.uniform(self.space.shape) * 2 - 1
        steps = self.config.sampling_steps
        for k, z in enumerate(self.chain(start, steps, lambda: noise.normal(self.space.shape)), 1):
            yield State(self.scaling.inverse(z), k, steps)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        for state in self.trajectory(n, y, seed=seed):
            x = state.x
        return x


def energy_network(space: Space, width: int) -> nn.Module:
    """To one number an example: strided convolutions on images, a perceptron on the rest."""
    if len(space.shape) != 3:
        return nn.Sequential(nn.Flatten(), mlp([space.dim, *[4 * width] * 3, 1]))
    return EnergyNet(space.shape, width)


class EnergyNet(nn.Module):
    """Smooth convolutions: a score has to be a gradient, so there is no kink and no normalisation."""

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
