r"""Energy-based model, trained in any of seven ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Normal

from dgm.errors import BadInput
from dgm.models.energy.base import LangevinEnergy, default_noise
from dgm.models.energy.trainers import NOISELESS, TRAINERS, TrainerName
from dgm.models.score.objectives import OBJECTIVES
from dgm.networks.conditions import check_condition
from dgm.networks.energy import EnergyNetwork
from dgm.protocols import (
    Batch,
    Conditions,
    DataDependent,
    Diagnosed,
    PerExample,
    Progressive,
    Samplable,
    Stateful,
    Trainable,
    Unnormalised,
)
from dgm.settings import setting
from dgm.space import Space

SMALLEST = 1e-3  # standard deviation of the noise of `nce` in a dimension that does not vary


class EBM(LangevinEnergy):
    r"""Energy-based model; an unnormalised log-likelihood.

    .. math:: p(z|y) = e^{-f(z, y) / T} / Z_y

    z is the scaled x. By default f is trained by maximum likelihood with Langevin chains from a replay buffer, `pcd` in
    the table of `dgm.models.energy.trainers`; there T is small, 1.25e-4, so energies differ by thousands of nats, and
    chains move downhill. With a larger ``noise``, such as the root of the step size for T = 1, exp(-E) is the density.

    On discrete spaces E is evaluated at the grey levels, and samples are rounded; exp(-E) is normalised by a sum over
    all x, on continuous spaces by an integral. Samples are final states of chains from uniform noise; of a model that
    is trained by denoising they are E[z | z + noise], by the score.

    Source: Implicit Generation and Modeling with Energy-Based Models (Du & Mordatch, 2019), arXiv:1903.08689, equation
    2 and algorithm 1. Differs from it: the noise of the chains is smaller than that of T = 1 for their step size (as in
    its code); the drift of a step is clipped; chains keep their condition in the buffer.

    Args:
        space: Any space but tokens.

    Example:
        >>> ebm = EBM(Space.continuous((2,)), EBM.Config(trainer="sliced"))
        >>> ebm.energy(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        trainer: TrainerName = setting("pcd", "how the energy is trained")
        width: int = setting(
            32, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )
        langevin_steps: int = setting(
            20, "Langevin steps of the chains in each training step by pcd or cd", low=1, high=100_000
        )
        sampling_steps: int = setting(300, "Langevin steps of a sample", low=1, high=100_000)
        step_size: float | None = setting(
            None, "step size eta of the chains, for scaled data (0.2 by pcd and cd, else 0.01)", low=1e-6
        )
        noise: float | None = setting(
            None,
            "standard deviation of the noise of each step, for scaled data (of T = 1.25e-4 by pcd and cd, else 1)",
            low=0.0,
        )
        data_noise: float | None = setting(
            None,
            "standard deviation of the noise added to scaled data (0.3 by explicit and denoising, else 0.03)",
            low=0.0,
        )
        regularisation: float = setting(0.1, "alpha, weight of the squared energies by pcd and cd", low=0.0)
        buffer: int = setting(1024, "chains in the replay buffer", low=1)

    defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "lr": 5e-4,
        "betas": (0.0, 0.999),
        "ema": 0.99,
        "clip": 0.1,
        "select": "last",
    }

    noise_mean: Tensor
    noise_std: Tensor
    initialised: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        trainer = TRAINERS[config.trainer]
        step_size = config.step_size or trainer.step_size
        noise = default_noise(step_size, trainer.temperature) if config.noise is None else config.noise
        is_persistent, has_noise = config.trainer == "pcd", config.trainer == "nce"
        chains = {"buffer": config.buffer, "of_chains": condition} if is_persistent else {"buffer": 0}
        super().__init__(space, config, condition, step_size=step_size, noise=noise, **chains)
        self.sigma = trainer.sigma if config.data_noise is None else config.data_noise
        if not self.sigma and config.trainer in NOISELESS:
            raise BadInput(f"trainer {config.trainer} needs noise on the data, got data_noise 0", "raise it, or sliced")
        if condition is not None and config.trainer == "explicit":
            wrong = "trainer explicit estimates the score of all data together, whatever its condition"
            raise BadInput(wrong, "take denoising, which has the same minimum, or leave the condition out")
        # no score depends on b
        self.network = EnergyNetwork(space.shape, config.width, condition, bias=config.trainer not in OBJECTIVES)
        capabilities: set[type] = {Trainable, Samplable, Progressive, Unnormalised}
        capabilities |= {Stateful, Diagnosed} if is_persistent else set()
        if has_noise or (is_persistent and condition is not None):
            capabilities.add(DataDependent)
            self.register_buffer("initialised", torch.tensor(False))
        if has_noise:
            self.register_buffer("noise_mean", torch.zeros(space.shape))
            self.register_buffer("noise_std", torch.ones(space.shape))
        self.capabilities = frozenset(capabilities)

    def potential(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return self.network(z, y)

    def scaled_energy(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        """E of scaled examples: exp(-E) is a density of z."""
        return self.potential(z, y) / self.temperature

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The loss of the trainer; no likelihood."""
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, and by pcd the rows of the chains in the replay buffer, their final states and conditions."""
        return TRAINERS[self.config.trainer].loss(self, self.scaling(x), check_condition(y, self.condition))

    @property
    def noise_distribution(self) -> Normal:
        """q of noise-contrastive estimation."""
        return Normal(self.noise_mean, self.noise_std)

    @torch.no_grad()
    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        """Sets the conditions of the chains, or the mean and the variances of the noise of ``nce``."""
        if self.initialised:
            return
        self.start(y)
        if self.config.trainer == "nce":
            z = self.scaling(x)
            self.noise_mean.copy_(z.mean(0))
            variance = z.var(0, correction=0) + self.sigma**2
            self.noise_std.copy_(variance.sqrt().clamp_min(SMALLEST))
        self.initialised.fill_(True)

    def finished(self, z: Tensor, y: Conditions | None) -> Tensor:
        if self.config.trainer != "denoising":
            return z
        return z + self.sigma**2 * self.score(z, y) / self.temperature
