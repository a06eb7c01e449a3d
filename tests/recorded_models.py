"""The numbers that every model gives on small examples, for `recorded`."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import ismodule, signature
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

import dgm
from dgm import contracts
from dgm.errors import BadInput
from dgm.likelihood import Kind, kind_of, kinds_of, log_likelihood
from dgm.models.table import MODELS
from dgm.networks.conditions import fit_marginals, is_label
from dgm.protocols import (
    Classifying,
    CodeDivergence,
    DataDependent,
    Denoising,
    Fittable,
    Latent,
    ManyWeights,
    MultiPlayer,
    Regularised,
    Samplable,
    Stateful,
    Trainable,
    Variational,
    condition_of,
    has,
)
from dgm.registry import create, model_class
from dgm.sampling import sample
from dgm.space import Space

EXAMPLES = 5
LATE = 600  # steps, after which schedules are in their second part
SPACES = {
    "numbers": Space.continuous((4,), loc=(3.0, 0.0, -1.0, 0.5), scale=(2.0, 0.5, 1.0, 1.5)),
    "floats": Space.continuous((2, 4, 4), loc=(0.5,) * 32, scale=(2.0,) * 32),
    "levels": Space.levels((1, 4, 4), 5),
    "bits": Space.binary((1, 4, 4)),
    "tokens": Space.tokens(6, 3),
    "points": Space.continuous((2,)),
    "colours": Space.levels((3, 8, 8), 256),
    "film": Space.levels((4, 1, 8, 8), 3),
}
CONDITIONS = {
    "alone": None,
    "label": Space.categories(3),
    "record": Space.record(
        age=Space.levels((), 9, optional=True),
        size=Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 0.1)),
        text=Space.tokens(3, 5),
        low=Space.binary((1, 2, 2)),
        kind=Space.categories(3),
    ),
}
# of settings by their names, where a model has them: small, and unlike each other
SIZES: dict[str, Any] = {
    "hidden": 12, "width": 8, "latent": 3, "layers": 2, "components": 2, "timesteps": 5, "sampling_steps": 3,
    "langevin_steps": 2, "noise_scales": 3, "buffer": 8, "codes": 6, "latents": (3, 2), "pseudo_inputs": 4, "head": 6,
    "skip": 6, "belief": 10, "channels": 4, "depth": 2, "orders": 2, "ode_steps": 2, "patterns": 2, "jump": 2,
}  # fmt: skip


def settings_of(name: str) -> dict[str, Any]:
    return {field: value for field, value in SIZES.items() if field in hints(name)}


@cache
def hints(name: str) -> dict[str, Any]:
    return get_type_hints(model_class(name).Config)


def variants(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings with one of them changed, by what was changed."""
    plain = settings_of(name)
    for field in dataclasses.fields(model_class(name).Config):
        value, hint = plain.get(field.name, field.default), hints(name)[field.name]
        for other in others(value, hint):
            yield f"{field.name}={other}", plain | {field.name: other}


def others(value: Any, hint: Any) -> list[Any]:
    """Values of a setting other than its present one: every choice, or one number."""
    choices = [choice for part in (hint, *get_args(hint)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return [choice for choice in choices if choice != value]
    if hint is bool:
        return [not value]
    if type(value) is int:
        return [value + 1]
    if type(value) is float:
        return [0.3 if value == 0 else value / 2]
    return []


def models(name: str) -> Iterator[tuple[str, Any]]:
    """By a description: the model on every space and under every condition that it takes, then its other settings."""
    takes = getattr(model_class(name), "conditions", ())
    first = ""
    for space in SPACES:
        if first and space in ("colours", "film"):  # flows are ill-conditioned on so few films
            continue
        for condition in CONDITIONS if takes else ["alone"]:
            if (model := made(name, space, condition, settings_of(name))) is not None:
                yield f"{space}, {condition}", model
                first = first or space
    for changed, settings in variants(name):
        for space in (first, "levels"):  # some settings are of images alone
            if (model := made(name, space, "label" if takes else "alone", settings)) is not None:
                yield f"{space}, {changed}", model
                break


def cases(name: str) -> Iterator[tuple[str, Iterator[tuple[str, Tensor]]]]:
    return ((case, numbers(model)) for case, model in models(name))


def made(name: str, space: str, condition: str, settings: Mapping[str, Any]) -> Any:
    """The model with noise in its weights; None where it does not take the space, the condition or the setting."""
    torch.manual_seed(0)
    try:
        model = create(name, SPACES[space], CONDITIONS[condition], **settings)
    except BadInput:
        return None
    x, y = examples(model)
    if y is not None:
        fit_marginals(model, y)
    if has(model, Fittable):
        for _ in zip(range(2), model.fit([(contracts.random_examples(model.space, 40), None)]), strict=False):
            pass
    if has(model, DataDependent):
        model.initialise(x, y)
    return contracts.perturbed(model)


def examples(model: Any) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(1)
    x, space = contracts.random_examples(model.space, EXAMPLES), condition_of(model)
    return x, None if space is None else contracts.random_examples(space, EXAMPLES)


def numbers(model: Any) -> Iterator[tuple[str, Tensor]]:
    """What a user can ask the model for, by name."""
    x, y = examples(model)
    for kind in kinds_of(model):
        torch.manual_seed(2)
        yield f"{kind} likelihood", log_likelihood(model, x, y, kind=kind, **ode(model, kind)).nats
    best = kind_of(model)
    if best not in (None, Kind.UNNORMALISED) and is_label(condition_of(model)):
        torch.manual_seed(2)
        yield "marginal", log_likelihood(model, x, marginal=True, kind=best, **ode(model, best)).nats
    if has(model, Samplable):
        yield "samples", sample(model, EXAMPLES, y, seed=3)
        if y is not None and getattr(model.config, "condition_dropout", 0):
            yield "guided samples", sample(model, EXAMPLES, y, seed=3, guidance=1.5)
    if has(model, Latent):
        z = model.encode(x, y)
        yield "codes", z
        yield "decoded", model.decode(z, y)
    if has(model, Variational):
        torch.manual_seed(2)
        z, ratio = model.code_and_log_ratio(x, y)
        yield "ratio of a code", ratio
        yield "samples given a code", model.sample_given_code(z, y, seed=4)
    if has(model, CodeDivergence):
        torch.manual_seed(2)
        yield "divergence of codes", model.divergence(x, y)
    if has(model, ManyWeights):
        torch.manual_seed(2)
        yield "weights", model.log_weights(x, y, draws=3)
    if has(model, Classifying):
        yield "labels", model.label_log_probs(x)
    yield from training(model.train(), x, y)
    for buffer in late(model):
        buffer.fill_(LATE)
    if late(model):
        yield from ((f"later {what}", values) for what, values in training(model, x, y))


def ode(model: Any, kind: Kind | None) -> dict[str, Any]:
    """A few steps, which round alike everywhere, for the estimate of a denoising model."""
    return {"solver": "heun", "solver_steps": 2} if has(model, Denoising) and kind is Kind.ESTIMATE else {}


def late(model: Any) -> list[Tensor]:
    """The counts of steps that the schedules of a loss depend on: of `CountsSteps`, or of a warm-up."""
    return [buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] in ("step", "trained")]


def training(model: Any, x: Tensor, y: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """The losses, their gradients, and the state after a step."""
    torch.manual_seed(2)
    if has(model, Trainable):
        yield from gradient(model, model.loss(x, y), "loss")
    elif has(model, MultiPlayer):
        for player, loss in model.losses(x, y):
            yield from gradient(model.get_submodule(player), loss, f"loss of {player}")
    if has(model, Regularised):
        for i, penalty in enumerate(model.regularisers()):
            torch.manual_seed(2)
            yield from gradient(model, penalty.penalty(x, y), f"penalty {i} of {penalty.player}")
    if has(model, Stateful) and not has(model, MultiPlayer):
        torch.manual_seed(2)
        model.after_step(*(model.loss_and_outputs(x, y)[1] if hasattr(model, "loss_and_outputs") else ()))
        yield "state", torch.cat([b.double().flatten() for b in model.buffers()])


def gradient(module: Any, loss: Tensor, what: str) -> Iterator[tuple[str, Tensor]]:
    yield what, loss.detach()
    parameters = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss.mean(), parameters, allow_unused=True)
    yield f"gradient of the {what}", torch.cat([g.double().flatten() for g in found if g is not None])


def defaults() -> Iterator[tuple[str, Iterator[tuple[str, Tensor]]]]:
    """Of the settings of every model, and of the arguments of every public function and class."""
    for name in MODELS:
        yield name, arguments(model_class(name).Config)
    public = {name: getattr(dgm, name) for name in dgm.__all__}
    for of, module in list(public.items()):
        if ismodule(module):
            public |= {f"{of}.{name}": getattr(module, name) for name in module.__all__}
    for name, value in public.items():
        if callable(value) and value is not dgm.Kind:  # whose signature is Python's
            yield f"dgm.{name}", arguments(value)


def arguments(function: Any) -> Iterator[tuple[str, Tensor]]:
    """The defaults of its arguments."""
    given = signature(function).parameters.values()
    return ((argument.name, number(argument.default)) for argument in given if argument.default is not argument.empty)


def number(value: Any) -> Tensor:
    """A number as it is, and one for anything else."""
    if not isinstance(value, int | float):
        value = zlib.crc32(repr(getattr(value, "__name__", value)).encode()) % 10007
    return torch.tensor([float(value)])
