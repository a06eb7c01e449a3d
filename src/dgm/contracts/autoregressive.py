"""Laws of models whose density is a product of conditionals."""

from __future__ import annotations

import torch

from dgm.contracts.examples import changed, some, under
from dgm.contracts.outcome import Broken, require
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Model


@torch.no_grad()
def no_dimension_sees_its_future(model: Model) -> str:
    """Changing a dimension leaves the conditionals of it and of those before it as they were."""
    x = some(model.space, 4)
    before = to_sequence(model.conditionals(*under(model, x)), model.space)
    moved_later = 0.0
    for i, dim in enumerate(raster_order(model.space)):
        other = changed(model.space, x, dim)
        change = (to_sequence(model.conditionals(*under(model, other)), model.space) - before).abs().amax((0, 2))
        if change[: i + 1].any():
            raise Broken(f"dimension {int(change[: i + 1].argmax())} sees dimension {i}")
        moved_later = max(moved_later, float(change.max()))
    return require(moved_later > 0 or model.space.dim == 1, f"later conditionals move by up to {moved_later:.3g}")


@torch.no_grad()
def conditionals_make_the_density(model: Model) -> str:
    """log p(x) is the sum of the conditionals' log-probabilities."""
    x = some(model.space)
    total = model.observed.log_prob(model.conditionals(*under(model, x)), x).flatten(1).sum(1)
    error = float((model.log_prob(*under(model, x)) - total).abs().max())
    return require(error < 1e-4, f"largest difference {error:.2g} nats")


@torch.no_grad()
def sequential_conditionals_agree(model: Model) -> str:
    """What is computed one dimension at a time equals what is computed at once."""
    x = some(model.space)
    parallel = to_sequence(model.conditionals(*under(model, x)), model.space)
    seen = torch.zeros_like(x)
    worst, sequential = 0.0, model.sequential_conditionals(*under(model, seen))
    for i, (dim, outputs) in enumerate(zip(raster_order(model.space), sequential, strict=True)):
        worst = max(worst, float(((outputs - parallel[:, i]).abs() / (1 + parallel[:, i].abs())).max()))
        seen.view(len(x), -1)[:, dim] = x.flatten(1)[:, dim]
    return require(worst < 1e-4, f"largest relative difference {worst:.2g}")
