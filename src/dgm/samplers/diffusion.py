"""Sampling of a denoising model, with any solver and any guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dgm.errors import BadInput, UnknownName
from dgm.modes import evaluated
from dgm.networks.conditions import sampled_condition
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise, Prediction
from dgm.protocols import Conditions, DenoisingModel, State
from dgm.samplers.solvers import SOLVERS
from dgm.samplers.times import SPACINGS, Spacing, times
from dgm.seeds import Seed, streams


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The configuration of a sampler of a denoising model.

    Args:
        solver: A name of `dgm.samplers.solvers.SOLVERS`.
        options: Keyword arguments of the solver, such as DDIM's ``eta``.
        clamp: Clamp the predicted x_0 to the bounds of bounded data, as most papers do for images.
    """

    solver: str = "ddim"
    sampling_steps: int = 50
    spacing: Spacing = "uniform"
    clamp: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise UnknownName.of("solver", self.solver, SOLVERS)
        if self.spacing not in SPACINGS:
            raise UnknownName.of("spacing", self.spacing, SPACINGS)
        if self.sampling_steps < 1:
            raise BadInput(f"a sampler needs at least 1 sampling step, got {self.sampling_steps}", "give more")


def denoiser(model: DenoisingModel, y: Conditions | None) -> Denoise:
    """The prediction of ``model`` under the conditions ``y``; the unconditional prediction if they are None."""
    return lambda x, t: model.predict(x, t.expand(len(x)), y)


def clamped(denoise: Denoise, path: GaussianPath) -> Denoise:
    """The prediction with x_0 clamped to [-1, 1], and the noise that is consistent with it and x_t."""

    def within(x: Tensor, t: Tensor) -> Prediction:
        predicted = denoise(x, t)
        x_0 = predicted.x_0.clamp(-1, 1)
        return Prediction(x_0, (x - path.alpha(t) * x_0) / path.sigma(t), predicted.variance)

    return within


@evaluated
def trajectory(
    model: DenoisingModel,
    n: int,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    sampler: SamplerConfig | None = None,
    guide: Callable[[DenoisingModel, Conditions | None], Denoise] = denoiser,
) -> Iterator[State]:
    """States from noise to samples, each in the space of the data.

    Args:
        model: A `dgm.protocols.Denoising`.
        y: (n, *condition). A conditional model draws conditions if none are given.
        sampler: Replaces the model's own configuration.
        guide: Makes the prediction from the model and the conditions, such as `dgm.samplers.guidance.classifier_free`.
    """
    sampler = sampler or model.sampler
    for step, x in enumerate(states(model, n, y, seed=seed, sampler=sampler, guide=guide), 1):
        # an adaptive solver chooses its own number of steps
        yield State(model.scaling.inverse(x), step, max(step, sampler.sampling_steps))


@evaluated
def sample(model: DenoisingModel, n: int, y: Conditions | None = None, *, seed: Seed = None, **how: Any) -> Tensor:
    """The last state of `trajectory`, (n, *shape)."""
    *_, x = states(model, n, y, seed=seed, **how)
    return model.scaling.inverse(x)


@torch.no_grad()
def states(
    model: DenoisingModel,
    n: int,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    sampler: SamplerConfig | None = None,
    guide: Callable[[DenoisingModel, Conditions | None], Denoise] = denoiser,
) -> Iterator[Tensor]:
    """The states of `trajectory`, in the units of the path."""
    sampler, loc = sampler or model.sampler, model.scaling.loc
    draw = streams(n, seed, loc.device)
    y = sampled_condition(y, model, draw)

    def noise() -> Tensor:
        return draw.normal(model.space.shape).to(loc)

    denoise = guide(model, y)
    if sampler.clamp and (model.space.discrete or model.space.bounds):
        denoise = clamped(denoise, model.path)
    grid = times(model.path, sampler.sampling_steps, sampler.spacing, t_min=model.t_min).to(loc)
    x_1 = model.path.sigma(grid[0]) * noise()
    yield from SOLVERS[sampler.solver].solve(denoise, model.path, x_1, grid, noise, **sampler.options)
