r"""Ancestral sampling of an autoregressive model: x_i ~ p(x_i | x_<i), one dimension after the other.

Each value is a function of two uniform numbers that are drawn beforehand. A sample therefore depends on its own random
stream alone, and sampling with and without a cache gives the same sample.
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
from dgm.protocols import AutoregressiveModel, Batch, Conditions, State
from dgm.seeds import Seed, streams


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """The options for sampling a value from its conditional distribution.

    Attributes:
        temperature: T of p^(1/T); below 1 favours likely values, 0 gives the most likely value.
        top_k: Number of most likely values to sample from, for categorical outputs; 0 keeps all.
        top_p: Total probability of the most likely values to sample from.
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


DEFAULT = DecodingOptions()


@evaluated
def trajectory(
    model: AutoregressiveModel,
    n: int,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    given: Batch | None = None,
    observed: int = 0,
    decoding: DecodingOptions = DEFAULT,
    cached: bool = True,
) -> Iterator[State]:
    """Yields the state after each dimension.

    Args:
        model: A `dgm.protocols.Autoregressive`.
        given: (n, *shape) or (1, *shape), of which the first ``observed`` dimensions in raster order are kept.
        cached: False computes all conditionals at every step, for tests and benchmarks.

    Raises:
        Unsupported: For top-k or top-p with a model whose outputs are not categorical.
    """
    space, device = model.space, next(model.parameters()).device
    if decoding.truncates and model.observed.outputs != space.values:
        raise Unsupported(
            "top-k and top-p need categorical outputs, which this model does not have", "use the temperature"
        )
    noise = streams(n, seed, device)
    y = sampled_condition(y, model, noise)
    u = noise.uniform((space.dim, 2))
    x = torch.zeros(n, *space.shape, dtype=space.dtype, device=device)
    if given is not None:
        observed_dims = raster_order(space)[:observed]
        x.view(n, -1)[:, observed_dims] = given.flatten(1)[:, observed_dims].to(x)
    return fill(model, x, y, u, observed, decoding, cached=cached)


@torch.inference_mode()
def fill(
    model: AutoregressiveModel,
    x: Batch,
    y: Conditions | None,
    u: Tensor,
    observed: int,
    decoding: DecodingOptions,
    *,
    cached: bool,
) -> Iterator[State]:
    """Fills ``x`` dimension by dimension; it is allocated outside of inference mode, so that it can be trained on."""
    flat, order = x.view(len(x), -1), raster_order(model.space)
    conditionals = model.sequential_conditionals(x, y) if cached else naive_conditionals(model, x, y)
    for i, outputs in enumerate(conditionals):
        if i >= observed:
            flat[:, order[i]] = draw(model, outputs, u[:, i], order[i], decoding)
        yield State(x, i + 1, len(order))


@evaluated
def sample(model: AutoregressiveModel, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
    for state in trajectory(model, n, y, seed=seed):
        x = state.x
    return x


def naive_conditionals(model: AutoregressiveModel, x: Batch, y: Conditions | None) -> Iterator[Tensor]:
    """`Autoregressive.sequential_conditionals` of any model, which computes all conditionals for each dimension."""
    for i in range(model.space.dim):
        yield to_sequence(model.conditionals(x, y), model.space)[:, i]


def draw(model: AutoregressiveModel, outputs: Tensor, u: Tensor, dim: int, decoding: DecodingOptions) -> Tensor:
    if decoding.temperature == 0 and outputs.shape[-1] == model.space.values:
        return outputs.argmax(-1).to(model.space.dtype)
    if decoding.temperature != 1:
        outputs = model.observed.tempered(outputs, max(decoding.temperature, 1e-6), dim)
    if decoding.truncates:
        outputs = truncated(outputs, decoding)
    return model.observed.sample(outputs, u, dim)


def truncated(logits: Tensor, decoding: DecodingOptions) -> Tensor:
    """Logits (B, K) with all but the most likely values at minus infinity.

    Source: for the nucleus, arXiv:1904.09751, equation 2; the value that crosses p is kept.
    """
    ranked, ranks = logits.sort(-1, descending=True)
    cumulative = ranked.softmax(-1).cumsum(-1) - ranked.softmax(-1)
    removed = cumulative >= decoding.top_p
    if decoding.top_k:
        removed[:, decoding.top_k :] = True
    return torch.empty_like(logits).scatter(-1, ranks, ranked.masked_fill(removed, -torch.inf))
