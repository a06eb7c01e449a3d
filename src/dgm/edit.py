"""Editing with a trained model, without further training: of images with a denoising model, and by codes.

Inpainting and restoration have a `dgm.protocols.Denoising` of images and batches of its space as arguments; the
functions of `dgm.editing.codes` have any model with codes. They return the result that `dgm edit` writes.

>>> import dgm
>>> digits = dgm.data.load("digits")
>>> model = dgm.create("ddpm", digits.space, width=8)
>>> known = torch.ones(8, 8, dtype=torch.bool).triu()
>>> dgm.edit.inpaint(model, digits.test.x[:2], known, n=3, resampling=dgm.edit.Resampling(sampling_steps=2)).shape
torch.Size([2, 3, 1, 8, 8])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm.distributions.dequantisation import Dequantised
from dgm.distributions.scaling import Scaling
from dgm.editing import completion, latent_restore, latent_search
from dgm.editing import restore as restoration
from dgm.editing.codes import (
    Arithmetic,
    Reconstruction,
    Spread,
    Traversal,
    arithmetic,
    between,
    decode,
    drawn,
    encode,
    error,
    interpolate,
    reconstruct,
    spread,
    traverse,
)
from dgm.editing.operators import AveragePooling, Blur, Grey, Operator
from dgm.editing.resampling import Resampling
from dgm.errors import BadInput, Unsupported
from dgm.inputs import model_given, number, of_type, random_seed, tensor, whole
from dgm.likelihood import Kind
from dgm.memory import refuse_too_many
from dgm.models.gan.base import AdversarialModel
from dgm.models.two_stage import TwoStage
from dgm.modes import evaluating
from dgm.networks.conditions import check_condition, given_condition
from dgm.progress import Progress, silent
from dgm.protocols import Batch, CodeMoments, Conditions, Denoising, Model, State, condition_of, has
from dgm.seeds import Streams
from dgm.space import Space

__all__ = [
    "Arithmetic",
    "AveragePooling",
    "Blur",
    "Grey",
    "Imputed",
    "Reconstruction",
    "Resampling",
    "Spread",
    "Traversal",
    "arithmetic",
    "between",
    "colourise",
    "deblur",
    "decode",
    "drawn",
    "encode",
    "impute",
    "inpaint",
    "interpolate",
    "invert",
    "measure",
    "reconstruct",
    "restore",
    "spread",
    "superres",
    "traverse",
]

CHUNK = 250  # images in a batch
PLAIN = Resampling()
OF_EACH = ("log_p", "effective")


def inpaint(
    model: Model,
    x: Batch | Any,
    known: Tensor | Any,
    condition: Conditions | Any | None = None,
    *,
    n: int = 1,
    seed: int = 0,
    resampling: Resampling = PLAIN,
    progress: Progress = silent,
) -> Batch:
    """RePaint: samples of the unknown pixels of each image given its known pixels, (B, n, *shape).

    Args:
        x: (B, *shape); the values of its unknown pixels are not used.
        known: bool (H, W), or another shape that can be broadcast to that of x.
        condition: A batch of conditions, one for each image or one for all; None for the unconditional model.
        n: Samples for each image; sample j of image i depends on the seed and on n i + j alone.
        resampling: The number of sampling steps, and which of them are repeated.
        progress: Called with the completed fraction and a description.

    Raises:
        Unsupported: If the model is not a denoising model of images.
        BadInput: If a batch, a mask, a condition or a number does not fit.
    """
    x = examples(model, x)
    mask = torch.as_tensor(known)
    if mask.dtype != torch.bool or not broadcasts(mask, model.space.shape):
        wrong = f"expected a bool mask that broadcasts to {model.space.shape}, got {mask.dtype} {tuple(mask.shape)}"
        raise BadInput(wrong, "give (H, W), true where a pixel is known")

    def states(rows: Tensor, y: Conditions | None, noise: Streams) -> Iterator[State]:
        return method_of(model).inpaint(model, x[rows], mask, y, seed=noise, resampling=resampling)

    return sampled(model, len(x), states, condition, n, seed, progress)


def broadcasts(mask: Tensor, shape: tuple[int, ...]) -> bool:
    try:
        return torch.broadcast_shapes(mask.shape, shape) == shape
    except RuntimeError:
        return False


def restore(
    model: Model,
    measured: Tensor,
    operator: Operator,
    condition: Conditions | Any | None = None,
    *,
    noise: float = 0.0,
    n: int = 1,
    seed: int = 0,
    resampling: Resampling = PLAIN,
    progress: Progress = silent,
) -> Batch:
    """DDRM: samples of the images that were measured, (B, n, *shape); see `dgm.editing.restore`.

    Args:
        measured: The result of `measure`: the operator applied to images that are scaled to [-1, 1].
        noise: Standard deviation of the measurement noise, with black 0 and white 1.
    """
    refuse_other_models(model)
    of_type("the operator", operator, Operator, "give dgm.edit.Blur((8, 8), 1.0) or the like")
    noise_std = 2 * positive("noise", noise)  # black to white is -1 to 1

    def states(rows: Tensor, y: Conditions | None, noise: Streams) -> Iterator[State]:
        return method_of(model).restore(
            model, measured[rows], operator, y, noise_std=noise_std, seed=noise, resampling=resampling
        )

    return sampled(model, len(measured), states, condition, n, seed, progress)


def measure(model: Model, x: Batch | Any, operator: Operator, *, noise: float = 0.0, seed: int = 0) -> Tensor:
    """The operator applied to complete images, with noise: a measurement to test `restore` with."""
    seen = operator(Scaling(model.space)(examples(model, x)))
    drawn = torch.randn(seen.shape, generator=torch.Generator().manual_seed(random_seed(seed)))
    return seen + 2 * positive("noise", noise) * drawn


def superres(
    model: Model, x: Batch | Any, factor: int = 2, condition: Conditions | Any | None = None, **how: Any
) -> Batch:
    """Images of ``factor`` times as many pixels a side, (B, n, *shape).

    Args:
        x: (B, C, H / factor, W / factor), in the data's own numbers.
        how: ``noise``, ``n``, ``seed``, ``resampling`` and ``progress`` of `restore`.
    """
    return restored(model, x, AveragePooling(whole("factor", factor, low=2)), condition, how)


def colourise(model: Model, x: Batch | Any, condition: Conditions | Any | None = None, **how: Any) -> Batch:
    """Colours for grey images (B, 1, H, W); ``how`` as `superres`."""
    refuse_other_models(model)
    if model.space.shape[0] != 3:
        raise Unsupported(f"there are no colours in {model.space}", "take a model of colour images")
    return restored(model, x, Grey(), condition, how)


def deblur(
    model: Model, x: Batch | Any, blur: float = 1.0, condition: Conditions | Any | None = None, **how: Any
) -> Batch:
    """Sharp images of blurred ones (B, *shape), by a Gaussian of ``blur`` pixels; ``how`` as `superres`."""
    refuse_other_models(model)
    _, height, width = model.space.shape
    return restored(model, x, Blur((height, width), number("blur", blur)), condition, how)


def restored(model: Model, x: Any, operator: Operator, condition: Any, how: dict[str, Any]) -> Batch:
    """Of images that are themselves a measurement."""
    refuse_other_models(model)
    seen = operator(torch.zeros(1, *model.space.shape)).shape[1:]
    x = replace(model.space, shape=tuple(seen)).check(x)
    return restore(model, Scaling(model.space)(x), operator, condition, **how)


def invert(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    steps: int = latent_search.STEPS,
    starts: int = latent_search.STARTS,
    seed: int = 0,
) -> Reconstruction:
    """The codes of examples under a GAN, found by gradient descent, and the generated examples of these codes.

    Args:
        x: (B, *shape) of any space of the model, not of images alone.
        condition: One for each example or one for all, for a conditional model.
        steps: Steps of gradient descent.
        starts: Number of random initial codes of each example; the best result is kept. See
            `dgm.editing.latent_search`.

    Raises:
        Unsupported: For a model that is not a GAN.
    """
    model_given(model)
    game = model.model if isinstance(model, Dequantised) else model
    if not isinstance(game, AdversarialModel):
        wrong = f"{type(game).__name__} is not a GAN, whose codes are searched for"
        raise Unsupported(wrong, "use a GAN of `dgm models`; for a diffusion model there is encode")
    x, steps, starts = model.space.check(x), whole("steps", steps, low=1), whole("starts", starts, low=1)
    y = check_condition(given_condition(model, condition, len(x)), condition_of(model))
    target = model.cells.centre(x) if isinstance(model, Dequantised) else x
    z = latent_search.invert(game, target, y, steps=steps, starts=starts, seed=random_seed(seed))
    with evaluating(model), torch.no_grad():
        again = model.decode(z, None if y is None else y.to(z.device))
    return Reconstruction(again.cpu(), z.cpu(), error(model, again.cpu(), x))


class Imputed(NamedTuple):
    """Completed examples, and how they were found.

    Attributes:
        x: (B, n, *shape), n draws for each example.
        log_p: (B, n), log p(x_o) of the observed values in nats, of the ``kind`` of likelihood; the exponentials of
            weights are unbiased. NaN where ``kind`` is None.
        method: In words.
        effective: (B, n), the number of draws that the weights of an importance sampler are worth; infinite where the
            draws have no weights.
        draws: The number of these draws.
    """

    x: Batch
    log_p: Tensor
    kind: Kind | None
    method: str
    effective: Tensor
    draws: int


def impute(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    observed: Tensor | Any | None = None,
    present: bool = True,
    n: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> Imputed:
    """Draws of the missing values of each example, p(x_m | x_o): exact where the model allows it, by sampling
    otherwise; see `dgm.editing.completion`.

    Args:
        x: (B, *shape); the values that are not observed are not used.
        condition: A batch of conditions, one for each example or one for all, for a conditional model.
        observed: bool, of the shape of x or of one example; by default all values but NaN.
        present: Whether the values that are drawn are known not to be missing, in a record whose values may be.
        n: Draws for each example; draw j of example i depends on the seed, on example i and on n i + j alone.
        progress: Called with the completed fraction and a description.

    Raises:
        Unsupported: If the model cannot do so.
        BadInput: If an observed value is not of the space, or a condition does not fit.

    Example:
        >>> import dgm
        >>> model = dgm.create("gmm", dgm.Space.continuous((3,)), components=2)
        >>> impute(model, torch.tensor([[1.0, float("nan"), 0.0]]), n=4).x.shape
        torch.Size([1, 4, 3])
    """
    model_given(model)
    x, seen = partly_observed(model, x, observed)
    n, seed, count = whole("n", n, low=1), random_seed(seed), len(x)
    refuse_too_many(count * n, model.space)
    y = check_condition(given_condition(model, condition, count), condition_of(model))
    chunks = []
    with evaluating(model), torch.no_grad():
        progress(0.0, "preparing")
        by = completion.completer(model, seed)
        for keys in torch.arange(count * n).split(max(1, completion.TOGETHER // by.draws)):
            rows = keys // n
            of_y = None if y is None else y[rows]
            chunks.append(by(x[rows].flatten(1), seen[rows].flatten(1), of_y, keys.tolist(), present=present))
            progress(float(keys[-1] + 1) / (count * n), f"{int(keys[-1]) + 1:,} of {count * n:,}")
    found = torch.cat([chunk.x for chunk in chunks]).unflatten(1, model.space.shape).to(model.space.dtype)
    kept = torch.where(seen[:, None], x[:, None].to(found), found.unflatten(0, (count, n)))
    log_p, effective = (torch.cat([getattr(c, of) for c in chunks]).unflatten(0, (count, n)) for of in OF_EACH)
    return Imputed(kept, log_p, by.kind, by.method, effective, by.draws)


def partly_observed(model: Model, x: Any, observed: Any) -> tuple[Batch, Tensor]:
    """x with a value of the space where it is missing, and the mask of the observed values, bool of the shape of x."""
    space, x = model.space, tensor("x", x)
    if x.ndim == 0 or tuple(x.shape[1:]) != space.shape:
        raise BadInput(f"expected examples of shape {space.shape}, got {tuple(x.shape[1:])}", "give a batch of them")
    seen = ~x.isnan() if observed is None else torch.as_tensor(observed)
    if seen.dtype != torch.bool or not broadcasts(seen, tuple(x.shape)):
        wrong = f"observed must be bool of the shape {tuple(x.shape)}, got {seen.dtype} {tuple(seen.shape)}"
        raise BadInput(wrong, "give True where x is observed")
    seen = seen.expand_as(x)
    return space.check(torch.where(seen, x, a_value(space).to(x))), seen


def a_value(space: Space) -> Tensor:
    """One example of a space, (*shape)."""
    parts = [part for _, part in space.parts] or [space]
    lowest = [0.0 if part.bounds is None else part.bounds[0] for part in parts for _ in range(part.dim)]
    return torch.tensor(lowest, dtype=torch.float64).view(space.shape)


def method_of(model: Model) -> Any:
    """The module with the samplers of a denoising model of images, or of one of their codes."""
    return latent_restore if isinstance(model, TwoStage) else restoration


def refuse_other_models(model: Model) -> None:
    model_given(model)
    denoising = model.prior if isinstance(model, TwoStage) else model
    if not has(denoising, Denoising):
        wrong = f"{type(denoising).__name__} is not a denoising model, which inpainting and restoration need"
        raise Unsupported(wrong, "take a diffusion, score or flow-matching model of `dgm models`")
    if isinstance(model, TwoStage) and not has(model.first_stage, CodeMoments):
        wrong = f"a measurement of x has no gradient through the decoder of {type(model.first_stage).__name__}"
        raise Unsupported(wrong, "take a prior on a vae or an autoencoder, or a diffusion model of x itself")
    if len(model.space.shape) != 3:
        raise Unsupported(f"editing is for images, this model is of {model.space}", "take a model of images")


def examples(model: Model, x: Batch | Any) -> Batch:
    refuse_other_models(model)
    return model.space.check(x)


def positive(what: str, value: float) -> float:
    if number(what, value) < 0:
        raise BadInput(f"{what} must be at least 0, got {value}", "0 is none")
    return float(value)


def sampled(
    model: Model,
    count: int,
    states: Callable[[Tensor, Conditions | None, Streams], Iterator[State]],
    condition: Any,
    n: int,
    seed: int,
    progress: Progress,
) -> Batch:
    """(count, n, ...): n results of each of ``count`` images, chunk by chunk.

    Args:
        states: From (B,) numbers of images, their conditions and their noise, to the states on the way to the results.
    """
    n, seed, chunks, total = whole("n", n, low=1), random_seed(seed), [], count * n
    refuse_too_many(total, model.space)
    y = given_condition(model, condition, count)
    with evaluating(model):
        for keys in torch.arange(total).split(CHUNK):
            rows = keys // n
            for state in states(rows, None if y is None else y[rows], Streams(seed, keys.tolist())):
                share = (int(keys[0]) + state.sampling_step / state.sampling_steps * len(keys)) / total
                progress(share, f"step {state.sampling_step} of {state.sampling_steps}")
            chunks.append(state.x)
    return torch.cat(chunks).unflatten(0, (count, n))
