r"""Score matching with four objectives at one noise scale; samples, no likelihood.

Each learns :math:`s = \nabla \log q_\sigma` of the data with added noise, x~ = x + sigma eps; the table of the
objectives is in `dgm.models.score.objectives`.

Samples follow s by Langevin dynamics and are denoised at the end, :math:`E[x | x~] = x~ + \sigma^2 s(x~)`. With one
noise scale they rarely move between modes, which `NCSN` avoids.

Source: the papers of that table. Differs from them: s is a network and not the gradient of an energy; all four use
data with noise, where Hyvärinen and Song match the density of the data, the limit of sigma to 0; the loss is scaled by
sigma² / D.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.models.score.objectives import OBJECTIVES
from dgm.modes import evaluated
from dgm.networks.denoiser import Denoiser
from dgm.protocols import Batch, PerExample, State
from dgm.samplers.langevin import langevin
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space


class ScoreMatching(nn.Module):
    """The score at one noise scale, by a residual perceptron, whose second derivatives two objectives need.

    Example:
        >>> model = ScoreMatching(Space.continuous((2,)), ScoreMatching.Config(objective="sliced"))
        >>> model.loss(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = Denoiser.defaults

    @dataclass(frozen=True, kw_only=True)
    class Config:
        objective: Literal["denoising", "sliced", "implicit", "explicit"] = setting(
            "denoising", "which form; implicit takes a gradient for each dimension"
        )
        sigma: float = setting(0.3, "noise scale, for data in [-1, 1]", low=1e-6)
        width: int = setting(24, "width of the network; its layers are four times as wide", low=1)
        sampling_steps: int = setting(200, "Langevin steps of a sample", low=1, high=100_000)
        step_size: float = setting(0.2, "Langevin step size over the variance of the noise", low=1e-6)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        self.network = Denoiser(space.shape, width=config.width, network="mlp")

    def loss(self, x: Batch, y: None = None) -> PerExample:
        """The objective times sigma² / D; ½ for denoising with an untrained network."""
        x_0, sigma = self.scaling(x), self.config.sigma
        noisy = x_0 + sigma * torch.randn_like(x_0)
        return OBJECTIVES[self.config.objective](self.score, x_0, noisy, sigma) * sigma**2 / self.space.dim

    def score(self, noisy: Tensor) -> Tensor:
        """The gradient of log q_sigma, in scaled units."""
        sigma, no_time = self.config.sigma, noisy.new_zeros(len(noisy))
        return -self.network(noisy / (1 + sigma**2) ** 0.5, no_time) / sigma

    @evaluated
    def sample(self, n: int, y: None = None, *, seed: Seed = None) -> Batch:
        *_, last = self.trajectory(n, y, seed=seed)
        return last.x

    @evaluated
    @torch.no_grad()
    def trajectory(self, n: int, y: None = None, *, seed: Seed = None) -> Iterator[State]:
        """Langevin dynamics from noise with the scale of the data; the last state is denoised."""
        config, draw = self.config, streams(n, seed, self.scaling.loc.device)

        def noise() -> Tensor:
            return draw.normal(self.space.shape).to(self.scaling.loc)

        variance = config.sigma**2
        walk = langevin(
            self.score,
            noise(),
            langevin_steps=config.sampling_steps,
            step_size=config.step_size * variance,
            noise=noise,
        )
        for step, x in enumerate(walk, 1):
            noiseless = x + variance * self.score(x) if step == config.sampling_steps else x
            yield State(self.scaling.inverse(noiseless), step, config.sampling_steps)
