"""Samples of any model, as the package draws them for a user, an evaluation or a report."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dgm.errors import BadInput, Unsupported
from dgm.inputs import whole
from dgm.memory import refuse_too_many
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import given_condition
from dgm.protocols import Autoregressive, Batch, Conditions, Model, Samplable, has
from dgm.samplers import sequential
from dgm.seeds import Streams

CHUNK = 250  # samples drawn at once


@torch.no_grad()
def sample(
    model: Model,
    n: int,
    condition: Conditions | Any | None = None,
    *,
    given: Batch | Any | None = None,
    observed: int | None = None,
    seed: int | None = 0,
) -> Batch:
    """``n`` examples in the data's own space, on the CPU. Sample k depends on the seed and on k alone.

    The model is evaluated as `dgm.modes` says, some samples at a time, on its own device.

    Args:
        condition: A batch of the model's condition, such as (n,) labels, or one for all. None draws labels as often as
            the training data has them, and other conditions from some that are kept of it: see
            `dgm.networks.conditions.Marginal`.
        given: (n, *shape) or (1, *shape), the part of x that is kept, of an autoregressive model.
        observed: How many dimensions of ``given`` are kept, the first in raster order.
        seed: Any whole number; None takes another one each time.

    Raises:
        Unsupported: For a model that draws no samples, has no condition, or does not go on from a part of x.
        BadInput: For conditions, counts or a batch that do not fit.

    Example:
        >>> import dgm
        >>> sample(dgm.create("made", dgm.Space.binary((4,))), 3).shape
        torch.Size([3, 4])
    """
    n = whole("n", n, low=1)
    seed = int(torch.randint(2**62, ())) if seed is None else whole("the seed", seed)
    if not has(model, Samplable):
        raise Unsupported(f"{type(model).__name__} draws no samples", "choose a model that has `sample`")
    refuse_too_many(n, model.space)
    y, kept = given_condition(model, condition, n), _kept(model, n, given, observed)
    device = device_of(model)

    def chunk(rows: Tensor) -> Batch:
        noise, conditions = Streams(seed, rows.tolist(), device), None if y is None else y[rows].to(device)
        if kept is None:
            return model.sample(len(rows), conditions, seed=noise)
        *_, last = sequential.trajectory(
            model, len(rows), conditions, seed=noise, given=kept[rows], observed=observed or 0
        )
        return last.x

    with evaluating(model):
        return torch.cat([chunk(rows).cpu() for rows in torch.arange(n).split(CHUNK)])


def _kept(model: Model, n: int, given: Batch | Any | None, observed: int | None) -> Batch | None:
    """(n, *shape), of which the first ``observed`` dimensions are kept."""
    if given is None and observed is None:
        return None
    if given is None or observed is None:
        raise BadInput("a part of x needs both given and observed", "give x, and how many of its dimensions are kept")
    if not has(model, Autoregressive):
        wrong = f"{type(model).__name__} draws all values at once: it goes on from nothing"
        raise Unsupported(wrong, "sample an autoregressive model, or see `dgm edit`")
    x = model.space.check(given)
    if len(x) not in (1, n):
        raise BadInput(f"expected 1 or {n} examples to go on from, got {len(x)}", "give one, or one a sample")
    if whole("observed", observed, low=0) > model.space.dim:
        raise BadInput(f"observed must be at most {model.space.dim}, got {observed}", "an example has no more")
    return x.expand(n, *model.space.shape)
