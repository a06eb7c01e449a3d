"""Laws of samples."""

from __future__ import annotations

import torch

from dgm.contracts.examples import same
from dgm.contracts.outcome import require
from dgm.protocols import Model
from dgm.seeds import Streams


@torch.no_grad()
def samples_lie_in_the_space(model: Model) -> str:
    """Samples lie in the space."""
    x = model.space.check(model.sample(16, seed=0))
    return require(x.dtype == model.space.dtype and len(x) == 16, f"16 of {x.dtype}")


@torch.no_grad()
def sample_depends_on_its_number_alone(model: Model) -> str:
    """Sample k depends on the seed and on k alone."""
    together, other = model.sample(12, seed=3), model.sample(12, seed=4)
    apart = torch.cat([model.sample(5, seed=Streams(3, range(5))), model.sample(7, seed=Streams(3, range(5, 12)))])
    # networks round differently in batches of different size, and a rounded level can tip over
    near = ((together.double() - apart.double()).abs() < 1e-3) | same(together, apart)
    share = float(near.double().mean())
    require(share > 0.97, f"{1 - share:.1%} of the values change with the batch")
    return require(not bool(same(together, other).all()), "batches of 12 and of 5 + 7 agree, and another seed differs")


@torch.no_grad()
def trajectory_ends_in_the_sample(model: Model) -> str:
    """The trajectory's last state is the sample."""
    states = list(model.trajectory(4, seed=5))
    x = model.sample(4, seed=5)
    require(states[-1].step == states[-1].steps, f"the last state is step {states[-1].step} of {states[-1].steps}")
    return require(bool(same(states[-1].x, x).all()), f"{len(states)} states")
