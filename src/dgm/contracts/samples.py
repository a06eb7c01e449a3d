"""Laws of samples."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from dgm.contracts.examples import equal_values, with_condition
from dgm.contracts.outcome import Skipped, require
from dgm.protocols import Batch, Model
from dgm.seeds import Streams
from dgm.space import Space

DIFFERENCE = 1e-8  # step of the finite differences in float64; in a larger one a ReLU may change its side


@torch.no_grad()
def samples_lie_in_the_space(model: Model) -> str:
    """Samples lie in the space of the data."""
    x = model.space.check(model.sample(16, seed=0))
    return require(x.dtype == model.space.dtype and len(x) == 16, f"16 of {x.dtype}")


@torch.no_grad()
def sample_depends_on_seed_and_index_alone(model: Model) -> str:
    """Sample k depends on the seed and on k alone, not on the batch."""
    together, other = model.sample(12, seed=3), model.sample(12, seed=4)
    apart = torch.cat([model.sample(5, seed=Streams(3, range(5))), model.sample(7, seed=Streams(3, range(5, 12)))])
    # networks round differently in batches of different sizes, which may change the level that a value is rounded to
    near = ((together.double() - apart.double()).abs() < 1e-3) | equal_values(together, apart)
    share = float(near.double().mean())
    require(share > 0.97, f"{1 - share:.1%} of the values change with the size of the batch")
    differs = not bool(equal_values(together, other).all())
    found = "batches of 12 and of 5 + 7 agree, and another seed differs"
    return require(differs or on_the_bounds(model.space, torch.cat([together, other])), found)


def on_the_bounds(space: Space, x: Batch) -> bool:
    """Whether all values are at an end of the space, where samples of random weights may end for any seed."""
    low, high = space.bounds or (0, (space.values or 0) - 1)
    return space.kind != "record" and bool(((x <= low) | (x >= high)).all()) and high - low > 1


@torch.no_grad()
def trajectory_ends_in_the_sample(model: Model) -> str:
    """The last state of the trajectory is the sample."""
    states = list(model.trajectory(4, seed=5))
    x = model.sample(4, seed=5)
    require(
        states[-1].sampling_step == states[-1].sampling_steps,
        f"the last state has number {states[-1].sampling_step} of {states[-1].sampling_steps}",
    )
    return require(bool(equal_values(states[-1].x, x).all()), f"{len(states)} states")


def gradients_pass_through_samples(model: Model) -> str:
    """The gradient through reparameterised samples matches finite differences."""
    if model.space.discrete or model.space.kind == "record":
        raise Skipped("discrete samples have no gradient")
    double, y = copy.deepcopy(model).double(), with_condition(model, 64)[1:]
    with torch.no_grad():
        apart = float((model.rsample(64, *y, seed=1) - model.sample(64, *y, seed=1)).abs().max())
    require(apart < 1e-5, f"rsample and sample with the same seed differ by {apart:.2g}")
    parameters = [parameter for parameter in double.parameters() if parameter.requires_grad]

    def mean(step: float) -> Tensor:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(step * direction)
        return double.rsample(64, *y, seed=1).sin().mean()

    directions = [torch.randn_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(mean(0.0), parameters, allow_unused=True)
    slope = sum(float((g * v).sum()) for g, v in zip(gradients, directions, strict=True) if g is not None)
    with torch.no_grad():
        above, below = float(mean(DIFFERENCE)), float(mean(-2 * DIFFERENCE))
    expected = (above - below) / (2 * DIFFERENCE)
    close = abs(slope - expected) < 1e-3 * max(abs(slope), abs(expected)) + 1e-7
    return require(close and expected != 0, f"gradient {slope:.6g}, by finite differences {expected:.6g}")
