"""Laws of autoregressive models."""

from __future__ import annotations

import torch

from dgm.contracts.examples import random_examples, with_changed_value, with_condition
from dgm.contracts.outcome import Broken, require
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Model


@torch.no_grad()
def conditionals_are_autoregressive(model: Model) -> str:
    """The conditional of each dimension depends on earlier dimensions only."""
    x = random_examples(model.space, 4)
    before = to_sequence(model.conditionals(*with_condition(model, x)), model.space)
    moved_later = 0.0
    for i, dim in enumerate(raster_order(model.space)):
        other = with_changed_value(model.space, x, dim)
        change = (
            (to_sequence(model.conditionals(*with_condition(model, other)), model.space) - before).abs().amax((0, 2))
        )
        if change[: i + 1].any():
            raise Broken(f"the conditional of dimension {int(change[: i + 1].argmax())} depends on dimension {i}")
        moved_later = max(moved_later, float(change.max()))
    return require(moved_later > 0 or model.space.dim == 1, f"later conditionals change by up to {moved_later:.3g}")


@torch.no_grad()
def density_is_the_product_of_conditionals(model: Model) -> str:
    """log p(x) is the sum of the log-probabilities of the conditionals."""
    x = random_examples(model.space)
    total = model.observed.log_prob(model.conditionals(*with_condition(model, x)), x).flatten(1).sum(1)
    error = float((model.log_prob(*with_condition(model, x)) - total).abs().max())
    return require(error < 1e-4, f"largest difference {error:.2g} nats")


@torch.no_grad()
def sequential_conditionals_agree(model: Model) -> str:
    """Conditionals that are computed one dimension at a time equal the conditionals computed in parallel."""
    x = random_examples(model.space)
    parallel = to_sequence(model.conditionals(*with_condition(model, x)), model.space)
    seen = torch.zeros_like(x)
    worst, sequential = 0.0, model.sequential_conditionals(*with_condition(model, seen))
    for i, (dim, outputs) in enumerate(zip(raster_order(model.space), sequential, strict=True)):
        worst = max(worst, float(((outputs - parallel[:, i]).abs() / (1 + parallel[:, i].abs())).max()))
        seen.view(len(x), -1)[:, dim] = x.flatten(1)[:, dim]
    return require(worst < 1e-4, f"largest relative difference {worst:.2g}")
