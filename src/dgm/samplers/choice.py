"""The choice of the sampler: of any model, with the options of `dgm.sample`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from dgm.composite import TrainsPart
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.inputs import model_given, number, of_type, whole
from dgm.modes import device_of
from dgm.protocols import (
    Autoregressive,
    Batch,
    Conditions,
    Denoising,
    Imputing,
    Model,
    Progressive,
    Samplable,
    State,
    has,
)
from dgm.samplers import diffusion, sequential
from dgm.samplers.guidance import ALWAYS
from dgm.samplers.options import Guidance, sampler_of
from dgm.samplers.sequential import DEFAULT, DecodingOptions
from dgm.samplers.times import Spacing
from dgm.seeds import Streams

# a sampler: from the indices of some samples, their conditions and their random streams to the states of a trajectory
DrawStates = Callable[[Tensor, Conditions | None, Streams], Iterator[State]]


class SamplingOptions(TypedDict, total=False):
    """The options that `sample` and `trajectory` share.

    Attributes:
        given: (n, *shape) or (1, *shape), the observed part of x, for an autoregressive model, for one with closed-form
            conditionals such as `gmm`, or for two stages with an autoregressive prior: see `docs/two-stages.md`.
        observed: Number of observed dimensions of ``given``, the first in raster order; for a model with closed-form
            conditionals also a bool tensor (n, *shape), (1, *shape) or (*shape).
        decoding: Decoding options of an autoregressive model, such as the temperature.
        solver: A name in `dgm.samplers.solvers.SOLVERS`, for a denoising model; by default that of the model.
        sampling_steps: Number of steps of the sampler; also of a model with its own sampler, such as an energy-based
            one.
        spacing: Spacing of the times of these steps.
        eta: The noise of DDIM steps, from 0 to 1 (ancestral sampling).
        guidance: Guidance of a denoising model; a number is the scale of classifier-free guidance.
        mean: Return the mean of the decoder of a VAE, without observation noise.
        truncation: The largest magnitude of each number of a GAN's z; a small one trades variety for quality.
    """

    given: Batch | Any | None
    observed: int | Tensor | None
    decoding: DecodingOptions | None
    solver: str | None
    sampling_steps: int | None
    spacing: Spacing | None
    eta: float | None
    guidance: Guidance | float | None
    mean: bool
    truncation: float | None


def draw_states_of(model: Model, n: int, *, truncation: float | None = None, **options: Any) -> DrawStates:
    """Checks the options, and returns the sampler."""
    model_given(model)
    known = SamplingOptions.__annotations__
    for name in options:
        if name not in known:
            raise UnknownName.of("option of dgm.sample", name, known)
    if not has(model, Samplable):
        raise Unsupported(f"{type(model).__name__} draws no samples", "choose a model that has `sample`")
    draw_states = _chosen(model, n, **options)
    return draw_states if truncation is None else _truncated(model, number("truncation", truncation))


def _chosen(
    model: Model,
    n: int,
    *,
    given: Any = None,
    observed: int | Tensor | None = None,
    decoding: DecodingOptions | None = None,
    solver: str | None = None,
    sampling_steps: int | None = None,
    spacing: Spacing | None = None,
    eta: float | None = None,
    guidance: Guidance | float | None = None,
    mean: bool = False,
) -> DrawStates:
    """The sampler with these options."""
    sampler = {"solver": solver, "sampling_steps": sampling_steps, "spacing": spacing, "eta": eta}
    chosen = {name: value for name, value in sampler.items() if value is not None}
    if given is not None and decoding is None and not chosen and has(model, Imputing):
        x, mask = _partly_observed(model, n, given, observed)
        return lambda rows, y, noise: iter([State(model.impute(x[rows], mask[rows], y, seed=noise), 1, 1)])
    if isinstance(model, TrainsPart) and (given is not None or chosen or guidance is not None or decoding is not None):
        if given is None:
            return _of_part(model, n, guidance=guidance, mean=mean, decoding=decoding, **chosen)
        return _completed_codes(model, n, given, observed, decoding=decoding, **chosen)
    if isinstance(observed, Tensor):
        wrong = f"{type(model).__name__} cannot be given any part of x, only the first dimensions"
        raise Unsupported(wrong, "give the number of the first dimensions that are observed, or choose a gmm")
    if given is None and decoding is not None and hasattr(model, "sample_tempered"):
        return _tempered(model.sample_tempered, decoding)
    given_x = _given(model, n, given, observed, decoding)
    if mean:
        return _decoded_mean(model)
    guides_itself = guidance is not None and hasattr(model, "guided")
    default = _guided(model, guidance) if guides_itself else _default
    if (
        chosen.keys() == {"sampling_steps"}
        and (guides_itself or guidance is None)
        and not has(model, Denoising)
        and hasattr(model.config, "sampling_steps")
    ):
        steps = whole("sampling_steps", chosen["sampling_steps"], low=1)
        return lambda rows, y, noise: _with_steps(model, steps, partial(default, model, rows, y, noise))
    if guides_itself and not chosen:
        return partial(default, model)
    if chosen or guidance is not None:
        return _denoising(model, chosen, guidance)
    if given_x is None and decoding is None:
        return partial(_default, model)
    how: dict[str, Any] = {"observed": observed or 0, "decoding": decoding or DEFAULT}
    return lambda rows, y, noise: sequential.trajectory(
        model, len(rows), y, seed=noise, given=None if given_x is None else given_x[rows], **how
    )


def _tempered(draw: Callable[..., Tensor], decoding: DecodingOptions) -> DrawStates:
    """The sampler of a flow whose noise is multiplied by the temperature."""
    of_type("decoding", decoding, DecodingOptions, "give dgm.DecodingOptions(temperature=0.7)")
    if decoding.truncates:
        raise Unsupported("a flow has no categories to take the top of", "use the temperature")
    return lambda rows, y, noise: iter([State(draw(len(rows), y, seed=noise, temperature=decoding.temperature), 1, 1)])


def _of_part(
    model: TrainsPart, n: int, *, guidance: Guidance | float | None = None, mean: bool = False, **how: Any
) -> DrawStates:
    """The sampler of the trained part of a composite; a weak composite guides by its trained part."""
    if mean:
        _decoded_mean(model)  # raises the error for a model without a decoder's mean
    if isinstance(guidance, Guidance) and isinstance(guidance.weak, TrainsPart):
        guidance = replace(guidance, weak=guidance.weak.trained_part[1])
    draw_states = _chosen(model.trained_part[1], n, guidance=guidance, **how)
    return lambda rows, y, noise: model.through_part(lambda y, noise: draw_states(rows, y, noise), y, noise, mean=mean)


def _completed_codes(model: TrainsPart, n: int, given: Any, observed: Any, **how: Any) -> DrawStates:
    """The sampler of two stages, whose prior completes the codes of a given part of x."""
    prior, observed_codes = model.trained_part[1], getattr(model, "observed_codes", None)
    if observed_codes is None or not has(prior, Autoregressive):
        wrong = f"{type(model).__name__} with the trained part {type(prior).__name__} cannot be given a part of x"
        raise Unsupported(wrong, "leave it out, or train an autoregressive prior of the codes of a vq_vae")
    x, count = _checked_part(model, n, given, observed)

    def draw_states(rows: Tensor, y: Conditions | None, noise: Streams) -> Iterator[State]:
        part, each = x[rows].to(device_of(model)), torch.arange(len(rows))
        z, of_codes, known = observed_codes(part, count, y)
        draw = _chosen(prior, len(rows), given=z, observed=of_codes, **how)
        for state in model.through_part(lambda y, noise: draw(each, y, noise), y, noise):
            yield state._replace(x=torch.where(known, part, state.x))

    return draw_states


def _default(model: Model, rows: Tensor, y: Conditions | None, noise: Streams) -> Iterator[State]:
    """The default sampler of the model."""
    if has(model, Progressive):
        return iter(model.trajectory(len(rows), y, seed=noise))
    return iter([State(model.sample(len(rows), y, seed=noise), 1, 1)])


def _guided(model: Model, guidance: Guidance | float | None) -> Callable[..., Iterator[State]]:
    """The sampler of a model that has its own classifier-free guidance, as `_default`."""
    chosen = guidance if isinstance(guidance, Guidance) else Guidance(scale=guidance or 0.0)
    if chosen.weak is not None or chosen.interval != ALWAYS:
        raise Unsupported(f"{type(model).__name__} is guided by a scale alone", "leave the weak model and interval out")
    if model.condition is None or not model.config.condition_dropout:
        wrong = "guidance needs a condition that was hidden in a part of the training"
        raise Unsupported(wrong, "train with --conditional --model.condition-dropout 0.1")
    return lambda model, rows, y, noise: model.guided(len(rows), y, seed=noise, scale=chosen.scale)


def _decoded_mean(model: Model | TrainsPart) -> DrawStates:
    sample_mean = getattr(model, "sample_mean", None)
    if sample_mean is None:
        wrong = f"{type(model).__name__} has no decoder with a mean"
        raise Unsupported(wrong, "leave the mean out, or sample a vae")
    return lambda rows, y, noise: iter([State(sample_mean(len(rows), y, seed=noise), 1, 1)])


def _truncated(model: Model | TrainsPart, truncation: float) -> DrawStates:
    if isinstance(model, TrainsPart):
        of_part = _truncated(model.trained_part[1], truncation)
        return lambda rows, y, noise: model.through_part(lambda y, noise: of_part(rows, y, noise), y, noise)
    if not hasattr(model, "sample_truncated"):
        raise Unsupported(f"{type(model).__name__} has no z to truncate", "leave truncation out, or sample a GAN")
    if truncation <= 0:
        raise BadInput(f"truncation must be above 0, got {truncation}", "1 or 2 are usual")
    return lambda rows, y, noise: iter([State(model.sample_truncated(len(rows), truncation, y, seed=noise), 1, 1)])


def _denoising(model: Model, chosen: Mapping[str, Any], guidance: Guidance | float | None) -> DrawStates:
    """The sampler of a denoising model with the given solver and guidance."""
    if not has(model, Denoising):
        wrong = f"{type(model).__name__} is not a denoising model and has no option {next(iter(chosen), 'guidance')}"
        raise Unsupported(wrong, "leave it out, or sample a diffusion, score or flow-matching model of `dgm models`")
    how: dict[str, Any] = {"sampler": sampler_of(model, **chosen)}
    if guidance is not None:
        chosen_guidance = guidance if isinstance(guidance, Guidance) else Guidance(scale=guidance)
        how["guide"] = chosen_guidance.guide(model)
    return lambda rows, y, noise: diffusion.trajectory(model, len(rows), y, seed=noise, **how)


@contextmanager
def _configured(model: Any, **changed: Any) -> Iterator[None]:
    before = model.config
    model.config = replace(before, **changed)
    try:
        yield
    finally:
        model.config = before


def _with_steps(model: Model, steps: int, states: Callable[[], Iterator[State]]) -> Iterator[State]:
    """The states of the model's own sampler with another number of steps."""
    with _configured(model, sampling_steps=steps):
        yield from states()


def _partly_observed(model: Model, n: int, given: Any, observed: int | Tensor | None) -> tuple[Batch, Tensor]:
    """x and which of it is observed, both (n, *shape) on the model's device."""
    if observed is None:
        raise BadInput(
            "a given part of x needs both given and observed", "give x and which of its dimensions are observed"
        )
    if not isinstance(observed, Tensor):
        first = torch.arange(model.space.dim) < _count_of(observed, model.space.dim)
        observed = first.view(model.space.shape)
    if observed.dtype != torch.bool or tuple(observed.shape[-len(model.space.shape) :]) != model.space.shape:
        wrong = f"observed must be bool of the shape {model.space.shape}, got {observed.dtype} {tuple(observed.shape)}"
        raise BadInput(wrong, "give True where x is observed, for one example or for each")
    device, x = device_of(model), torch.as_tensor(given)
    x = model.space.check(x.where(observed, torch.full_like(x[:1], _inside(model))))
    for batch in (x, observed.reshape(-1, *model.space.shape)):
        if len(batch) not in (1, n):
            raise BadInput(f"expected 1 or {n} given examples, got {len(batch)}", "give one, or one for each sample")
    return x.expand(n, *model.space.shape).to(device), observed.expand(n, *model.space.shape).to(device)


def _inside(model: Model) -> float:
    """A number of the space, in the place of a missing value."""
    return 0.0 if model.space.bounds is None else model.space.bounds[0]


def _count_of(observed: Any, most: int) -> int:
    if whole("observed", observed, low=0) > most:
        raise BadInput(f"observed must be at most {most}, got {observed}", "an example has no more")
    return int(observed)


def _given(model: Model, n: int, given: Any, observed: int | None, decoding: DecodingOptions | None) -> Batch | None:
    """(n, *shape), whose first ``observed`` dimensions are given."""
    if decoding is not None:
        of_type("decoding", decoding, DecodingOptions, "give dgm.DecodingOptions(temperature=0.8) or the like")
    if (given is None) != (observed is None):
        raise BadInput(
            "a given part of x needs both given and observed", "give x and the number of observed dimensions"
        )
    if given is None and decoding is None:
        return None
    if not has(model, Autoregressive):
        wrong = f"{type(model).__name__} draws all values at once: it takes no given part of x and no decoding options"
        raise Unsupported(wrong, "leave them out, sample a gmm or an autoregressive model, or see `dgm edit`")
    return None if given is None else _checked_part(model, n, given, observed)[0]


def _checked_part(model: Model | TrainsPart, n: int, given: Any, observed: Any) -> tuple[Batch, int]:
    """x, (n, *shape), and the number of its first dimensions that are observed."""
    if observed is None or isinstance(observed, Tensor):
        wrong = f"{type(model).__name__} is given the first dimensions of x"
        raise Unsupported(wrong, "give x and the number of its observed dimensions")
    x = model.space.check(given)
    if len(x) not in (1, n):
        raise BadInput(f"expected 1 or {n} given examples, got {len(x)}", "give one, or one for each sample")
    return x.expand(n, *model.space.shape), _count_of(observed, model.space.dim)
