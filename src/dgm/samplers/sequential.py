r"""Ancestral sampling of an autoregressive model: x_i ~ p(x_i | x_<i), one dimension after the other.

Each draw inverts two uniform numbers that are drawn beforehand, so a sample is a function of its own stream alone, and
the cached and the naive way give the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dgm.errors import BadInput, Unsupported
from dgm.modes import evaluated
from dgm.networks.conditions import sampled_condition
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Batch, Conditions, Model, State
from dgm.seeds import Seed, streams


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How a value is chosen from its conditional.

    Attributes:
        temperature: T of p^(1/T); below 1 keeps to what is likely, 0 takes the likeliest.
        top_k: How many of the likeliest values are kept, of unordered ones; 0 keeps all.
        top_p: The likeliest values that together have this probability are kept.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise BadInput(
                f"the temperature must be at least 0, got {self.temperature}", "1 samples the model as it is"
            )
        if self.top_k < 0:
            raise BadInput(f"top-k must be at least 0, got {self.top_k}", "0 keeps all values")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"top-p must be in (0, 1], got {self.top_p}", "1 keeps all values")

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1


PLAIN = DecodingOptions()


@evaluated
def trajectory(
    model: Model,
    n: int,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    given: Batch | None = None,
    observed: int = 0,
    decoding: DecodingOptions = PLAIN,
    cached: bool = True,
) -> Iterator[State]:
    """A dimension a step.

    Args:
        model: An `Autoregressive` one.
        given: (n, *shape) or (1, *shape), of which the first ``observed`` dimensions in raster order are kept.
        cached: False asks for all conditionals at every step, as a check and to time.

    Raises:
        Unsupported: For top-k or top-p of a model that gives no number to each value.
    """
    space, device = model.space, next(model.parameters()).device
    if decoding.truncates and model.observed.outputs != space.values:
        raise Unsupported("top-k and top-p need a table of values, which this model has not", "use the temperature")
    noise = streams(n, seed, device)
    y = sampled_condition(y, model, noise)
    u = noise.uniform((space.dim, 2))
    x = torch.zeros(n, *space.shape, dtype=space.dtype, device=device)
    if given is not None:
        kept = raster_order(space)[:observed]
        x.view(n, -1)[:, kept] = given.flatten(1)[:, kept].to(x)
    return filled(model, x, y, u, observed, decoding, cached=cached)


@torch.inference_mode()
def filled(
    model: Model, x: Batch, y: Conditions | None, u: Tensor, observed: int, decoding: DecodingOptions, *, cached: bool
) -> Iterator[State]:
    """Fills ``x`` dimension by dimension. It was made outside, so that it can be trained on afterwards."""
    flat, order = x.view(len(x), -1), raster_order(model.space)
    conditionals = model.sequential_conditionals(x, y) if cached else naive_conditionals(model, x, y)
    for i, outputs in enumerate(conditionals):
        if i >= observed:
            flat[:, order[i]] = draw(model, outputs, u[:, i], order[i], decoding)
        yield State(x, i + 1, len(order))


@evaluated
def sample(model: Model, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
    for state in trajectory(model, n, y, seed=seed):
        x = state.x
    return x


def naive_conditionals(model: Model, x: Batch, y: Conditions | None) -> Iterator[Tensor]:
    """`Autoregressive.sequential_conditionals` of any model, at the cost of all conditionals at each."""
    for i in range(model.space.dim):
        yield to_sequence(model.conditionals(x, y), model.space)[:, i]


def draw(model: Model, outputs: Tensor, u: Tensor, dim: int, decoding: DecodingOptions) -> Tensor:
    if decoding.temperature == 0 and outputs.shape[-1] == model.space.values:
        return outputs.argmax(-1).to(model.space.dtype)
    if decoding.temperature != 1:
        outputs = model.observed.tempered(outputs, max(decoding.temperature, 1e-6), dim)
    if decoding.truncates:
        outputs = truncated(outputs, decoding)
    return model.observed.sample(outputs, u, dim)


def truncated(logits: Tensor, decoding: DecodingOptions) -> Tensor:
    """Logits (B, K) with all but the likeliest values at minus infinity.

    Source: for the nucleus, arXiv:1904.09751, equation 2; the value that crosses p is kept.
    """
    ranked, places = logits.sort(-1, descending=True)
    before = ranked.softmax(-1).cumsum(-1) - ranked.softmax(-1)
    dropped = before >= decoding.top_p
    if decoding.top_k:
        dropped[:, decoding.top_k :] = True
    return torch.empty_like(logits).scatter(-1, places, ranked.masked_fill(dropped, -torch.inf))
