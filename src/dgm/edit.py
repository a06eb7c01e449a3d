"""Editing of images with a trained denoising model, without further training.

Each function has a `dgm.protocols.Denoising` of images and batches of its space as arguments, and returns the result
that `dgm edit` writes.

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

from dgm.editing import inversion, latent_search
from dgm.editing import restore as restoration
from dgm.editing.operators import AveragePooling, Blur, Grey, Operator
from dgm.editing.resampling import Resampling
from dgm.errors import BadInput, Unsupported
from dgm.inputs import model_given, number, of_type, whole
from dgm.memory import refuse_too_many
from dgm.models.gan.base import AdversarialModel
from dgm.modes import evaluating
from dgm.networks.conditions import given_condition
from dgm.progress import Progress, silent
from dgm.protocols import Batch, Conditions, Denoising, Model, State, has
from dgm.seeds import Streams

__all__ = [
    "AveragePooling",
    "Blur",
    "Grey",
    "Reconstruction",
    "Resampling",
    "colourise",
    "deblur",
    "decode",
    "encode",
    "inpaint",
    "interpolate",
    "invert",
    "measure",
    "reconstruct",
    "restore",
    "superres",
]

CHUNK = 250  # images in a batch
PLAIN = Resampling()


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
        return restoration.inpaint(model, x[rows], mask, y, seed=noise, resampling=resampling)

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
        return restoration.restore(
            model, measured[rows], operator, y, noise_std=noise_std, seed=noise, resampling=resampling
        )

    return sampled(model, len(measured), states, condition, n, seed, progress)


def measure(model: Model, x: Batch | Any, operator: Operator, *, noise: float = 0.0, seed: int = 0) -> Tensor:
    """The operator applied to complete images, with noise: a measurement to test `restore` with."""
    seen = operator(model.scaling(examples(model, x)))
    drawn = torch.randn(seen.shape, generator=torch.Generator().manual_seed(whole("the seed", seed)))
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
    return restore(model, model.scaling(x), operator, condition, **how)


def encode(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Tensor:
    """The codes of images, (B, *shape), approximately N(0, I) for a good model; see `dgm.editing.inversion`."""
    x, steps = examples(model, x), whole("sampling_steps", sampling_steps, low=1)
    with evaluating(model):
        return inversion.encode(model, x, given_condition(model, condition, len(x)), sampling_steps=steps, seed=seed)


def decode(
    model: Model, z: Tensor, condition: Conditions | Any | None = None, *, sampling_steps: int = inversion.STEPS
) -> Batch:
    """The images of codes (B, *shape)."""
    refuse_other_models(model)
    steps = whole("sampling_steps", sampling_steps, low=1)
    with evaluating(model):
        return inversion.decode(model, z, given_condition(model, condition, len(z)), sampling_steps=steps)


class Reconstruction(NamedTuple):
    """Images, (B, *shape), decoded from their codes ``z``.

    Attributes:
        error: The root mean square of the difference from the images that were encoded, with black 0 and white 1.
    """

    x: Batch
    z: Tensor
    error: float


def reconstruct(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Reconstruction:
    """Images decoded from their own codes."""
    z = encode(model, x, condition, sampling_steps=sampling_steps, seed=seed)
    again = decode(model, z, condition, sampling_steps=sampling_steps)
    return Reconstruction(again, z, distance(model, again, model.space.check(x)))


def invert(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    steps: int = latent_search.STEPS,
    starts: int = latent_search.STARTS,
    seed: int = 0,
) -> Reconstruction:
    """Codes of examples under a GAN, found by descent, and the examples that the generator makes of them.

    Args:
        x: (B, *shape) of any space of the model, not of images alone.
        condition: One an example or one for all, for a conditional model.
        steps: Steps of descent.
        starts: Random codes that each example is descended from; the best is kept. See `dgm.editing.latent_search`.

    Raises:
        Unsupported: For a model that is no GAN.
    """
    model_given(model)
    if not isinstance(model, AdversarialModel):
        wrong = f"{type(model).__name__} is no GAN, whose codes are searched for"
        raise Unsupported(wrong, "use a GAN of `dgm models`; for a diffusion model there is encode")
    x, steps, starts = model.space.check(x), whole("steps", steps, low=1), whole("starts", starts, low=1)
    y = given_condition(model, condition, len(x))
    z = latent_search.invert(model, x, y, steps=steps, starts=starts, seed=whole("the seed", seed))
    with evaluating(model), torch.no_grad():
        again = model.decode(z, y)
    return Reconstruction(again.cpu(), z.cpu(), distance(model, again, x))


def distance(model: Model, x: Batch, other: Batch) -> float:
    """The root mean square of the difference, with black 0 and white 1."""
    return float((model.scaling(x) - model.scaling(other.to(x.device))).square().mean().sqrt() / 2)


def interpolate(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    n: int = 8,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Batch:
    """Interpolations between pairs of images by their codes, (B // 2, n, *shape): 0 to 1, 2 to 3, …

    Args:
        condition: One condition for all; None for the unconditional model.
        n: Number of images of an interpolation, including both ends.
    """
    x, n = examples(model, x), whole("n", n, low=2)
    if len(x) < 2:
        raise BadInput(f"from one image to another needs 2 of them, got {len(x)}", "give more")
    z = encode(model, x, condition, sampling_steps=sampling_steps, seed=seed)
    weight, pairs = torch.linspace(0, 1, n), zip(z[:-1:2], z[1::2], strict=True)
    between = torch.cat([inversion.interpolate(first, second, weight) for first, second in pairs])
    return decode(model, between, condition, sampling_steps=sampling_steps).unflatten(0, (-1, n))


def refuse_other_models(model: Model) -> None:
    model_given(model)
    if not has(model, Denoising):
        wrong = f"{type(model).__name__} is no denoising model, which editing asks of a model"
        raise Unsupported(wrong, "take a diffusion, score or flow-matching model of `dgm models`")
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
    n, seed, chunks, total = whole("n", n, low=1), whole("the seed", seed), [], count * n
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
