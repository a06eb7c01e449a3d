"""Sampling of any model: samples, and trajectories of the sampler."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from dgm import torchrun
from dgm.errors import BadInput
from dgm.inputs import random_seed, whole
from dgm.memory import keep_freed, refuse_too_many
from dgm.modes import device_of, each_evaluated, evaluating
from dgm.networks.conditions import given_condition
from dgm.progress import Progress, silent
from dgm.protocols import (
    Batch,
    Conditions,
    Model,
    State,
)
from dgm.samplers.choice import DrawStates, SamplingOptions, draw_states_of
from dgm.seeds import Streams, mix

CHUNK = 250  # samples in one batch


def sample(
    model: Model,
    n: int,
    condition: Conditions | Any | None = None,
    *,
    seed: int | None = 0,
    length: int | None = None,
    progress: Progress = silent,
    **options: Unpack[SamplingOptions],
) -> Batch:
    """``n`` samples in the space of the data, on the CPU. Sample k depends on the seed and on k alone.

    The model is in evaluation mode, on its own device, and draws the samples in batches.

    Args:
        condition: A batch of conditions, such as (n,) labels, or one for all samples. With None labels are drawn with
            their frequencies in the training data, and other conditions from a subset of it: see
            `dgm.networks.conditions.Marginal`.
        seed: An integer; None for a random seed.
        length: Number of tokens of a text, generated in windows that continue the second half of the window before; by
            default the context of the model.
        progress: Called with the completed fraction and a description.
        options: `SamplingOptions`: given and observed, decoding, solver, sampling_steps, spacing, eta, guidance, mean,
            truncation.

    Raises:
        Unsupported: If the model cannot sample, or does not support an argument.
        BadInput: For conditions, counts, numbers or a batch that do not fit.
        UnknownName: For an unknown solver or spacing, with the nearest name.

    Example:
        >>> import dgm
        >>> sample(dgm.create("made", dgm.Space.binary((4,))), 3).shape
        torch.Size([3, 4])
    """
    n, seed = whole("n", n, low=1), _seed(seed)
    draw_states = draw_states_of(model, n, **options)
    windows = 1 if length is None else whole("length", length, low=1) // model.space.dim
    refuse_too_many(n * max(1, windows), model.space)
    y = given_condition(model, condition, n)
    keep_freed()
    with evaluating(model), torch.no_grad():
        if length is None:
            return _last(model, n, y, seed, draw_states, progress)
        return _text(model, n, y, seed, length, progress, options)


def trajectory(
    model: Model,
    n: int,
    condition: Conditions | Any | None = None,
    *,
    seed: int | None = 0,
    **options: Unpack[SamplingOptions],
) -> Iterator[State]:
    """The states of the sampler for the samples of `sample` with these arguments; the last has the samples.

    A model that draws all values at once has one state. The x of a state may be overwritten by the next one.

    Args:
        options: `SamplingOptions`, as for `sample`.
    """
    n, seed = whole("n", n, low=1), _seed(seed)
    draw_states = draw_states_of(model, n, **options)
    refuse_too_many(n, model.space)
    states = _states(model, torch.arange(n), given_condition(model, condition, n), seed, draw_states)
    return each_evaluated(model, _without_gradients(states))


def _without_gradients(states: Iterator[State]) -> Iterator[State]:
    """The states, computed without gradients; the caller may use gradients between them."""
    while True:
        with torch.no_grad():
            state = next(states, None)
        if state is None:
            return
        yield state


def _seed(seed: int | None) -> int:
    return int(torch.randint(2**62, ())) if seed is None else random_seed(seed)


def _states(model: Model, rows: Tensor, y: Conditions | None, seed: int, draw_states: DrawStates) -> Iterator[State]:
    """The states of the samples with these indices."""
    device = device_of(model)
    yield from draw_states(rows, None if y is None else y[rows].to(device), Streams(seed, rows.tolist(), device))


def _last(model: Model, n: int, y: Conditions | None, seed: int, draw_states: DrawStates, progress: Progress) -> Batch:
    """The samples, chunk by chunk; of several processes each draws some of the chunks, and all have them."""
    chunks: list[Batch | None] = []
    for k, rows in enumerate(torch.arange(n).split(CHUNK)):
        if not torchrun.is_mine(k):
            chunks.append(None)
            continue
        first, began = int(rows[0]), time.perf_counter()
        for state in _states(model, rows, y, seed, draw_states):
            done = first + len(rows) * min(1, state.sampling_step / state.sampling_steps)
            rate = state.sampling_step * len(rows) / (time.perf_counter() - began)
            progress(done / n, f"{int(done)} of {n}, {rate:,.0f} steps/s")
        chunks.append(state.x.cpu())
    return torch.cat(torchrun.shared(chunks))


def _text(
    model: Model,
    n: int,
    y: Conditions | None,
    seed: int,
    length: int,
    progress: Progress,
    options: Mapping[str, Any],
) -> Tensor:
    """(n, length) tokens: window after window, each continuing the second half of the one before."""
    if model.space.kind != "tokens":
        raise BadInput(f"a length is for text, this model is of {model.space}", "leave it out")
    given, observed = options.get("given"), options.get("observed")
    context, window, given_x = model.space.dim, 0, observed or 0
    start = torch.zeros(n, 0, dtype=torch.int64) if given is None else model.space.check(given)[:, :given_x]
    text = start.expand(n, -1)
    while text.shape[1] < length:
        window_seed = seed if window == 0 else mix(seed, window)
        draw_states = draw_states_of(model, n, **{**options, "given": given, "observed": observed})
        x = _last(model, n, y, window_seed, draw_states, progress)
        text, window = torch.cat([text, x[:, observed or 0 :]], 1), window + 1
        given, observed = torch.zeros_like(x), context // 2
        given[:, :observed] = x[:, context - observed :]
    return text[:, :length]
