r"""Codes of examples: encoded and decoded, interpolated, traversed, added and subtracted.

A model has codes by its own ``encode`` and ``decode`` (`dgm.protocols.Latent`), or, as a denoising model of images, by
`dgm.editing.inversion`. A generator without an encoder has codes that are drawn from N(0, I).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dgm.data import Dataset, Split
from dgm.distributions.scaling import Scaling
from dgm.editing import inversion, latent_search
from dgm.editing.expressions import Term, rows_of, terms_of
from dgm.errors import BadInput, Unsupported
from dgm.inputs import model_given, number, of_type, whole
from dgm.likelihood import evaluation_batch
from dgm.models.gan.base import AdversarialModel
from dgm.models.two_stage import sample_code
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import given_condition
from dgm.protocols import Batch, CodeDivergence, Codes, Conditions, Denoising, Latent, Model, condition_of, has
from dgm.seeds import streams

Curve = Literal["linear", "spherical"]
MOST = 1000  # training examples, at most, behind a mean code or the spread of a dimension
SEARCHED = 16  # the same where a code is found by descent
OWN = "x"  # the term of an expression that is an example's own code


# -- encoding and decoding


def encode(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Codes:
    """The codes of examples, (B, *latent): of a denoising model by `dgm.editing.inversion`, approximately N(0, I).

    Args:
        condition: A batch of conditions, one for each example or one for all.
        sampling_steps: Of a denoising model, as ``seed``, which draws the noise of its first step.
    """
    refuse_without_encoder(model)
    x, steps = model.space.check(x), whole("sampling_steps", sampling_steps, low=1)
    y = given_condition(model, condition, len(x))
    with torch.no_grad(), evaluating(model):
        if has(model, Denoising):
            return inversion.encode(model, x, y, sampling_steps=steps, seed=seed)
        return torch.cat([model.encode(*pair).cpu() for pair in batches(model, x, y)])


def decode(
    model: Model, z: Tensor, condition: Conditions | Any | None = None, *, sampling_steps: int = inversion.STEPS
) -> Batch:
    """The examples of codes (B, *latent)."""
    refuse_without_codes(model)
    steps = whole("sampling_steps", sampling_steps, low=1)
    y = given_condition(model, condition, len(z))
    with torch.no_grad(), evaluating(model):
        if has(model, Denoising):
            return inversion.decode(model, z, y, sampling_steps=steps)
        return torch.cat([model.decode(*pair).cpu() for pair in batches(model, z, y)])


def batches(model: Model, x: Tensor, y: Conditions | None) -> list[tuple[Tensor, Conditions | None]]:
    device, rows = device_of(model), torch.arange(len(x)).split(evaluation_batch(model))
    return [(x[part].to(device), None if y is None else y[part].to(device)) for part in rows]


def drawn(model: Model, n: int, *, seed: int = 0) -> Codes:
    """``n`` codes of N(0, I), for a model with a decoder alone."""
    refuse_without_codes(model)
    return streams(whole("n", n, low=1), seed, "cpu").normal(latent_shape(model))


def latent_shape(model: Model) -> tuple[int, ...]:
    return tuple(model.space.shape if has(model, Denoising) else model.latent_space.shape)


def has_encoder(model: Model) -> bool:
    return has(model, Latent) or (has(model, Denoising) and len(model.space.shape) == 3)


def refuse_without_codes(model: Model) -> None:
    """
    Raises:
        Unsupported: If the model decodes nothing.
    """
    model_given(model)
    if not has_encoder(model) and not (hasattr(model, "decode") and hasattr(model, "latent_space")):
        wrong = f"{type(model).__name__} of {model.space} has no codes"
        raise Unsupported(wrong, "take an autoencoder, a vae, a flow, a gan, or a denoising model of images")


def refuse_without_encoder(model: Model) -> None:
    refuse_without_codes(model)
    if not has_encoder(model):
        wrong = f"{type(model).__name__} has a decoder alone, and an example has no code"
        raise Unsupported(wrong, "interpolate or traverse drawn codes, or find one by `invert`")


def refuse_discrete_codes(model: Model) -> None:
    refuse_without_codes(model)
    if not has(model, Denoising) and model.latent_space.discrete:
        wrong = f"the codes are {model.latent_space}, with no values in between"
        raise Unsupported(wrong, "take a model with real-valued codes; `reconstruct` is possible")


# -- reconstruction


class Reconstruction(NamedTuple):
    """Examples, (B, *shape), decoded from their codes ``z``.

    Attributes:
        error: The root mean square of the difference from the examples that were encoded, with black 0 and white 1; of
            unbounded numbers, in their standard deviations; of tokens and records, the share of different values.
    """

    x: Batch
    z: Codes
    error: float


def reconstruct(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Reconstruction:
    """Examples decoded from their own codes."""
    z = encode(model, x, condition, sampling_steps=sampling_steps, seed=seed)
    again = decode(model, z, condition, sampling_steps=sampling_steps)
    return Reconstruction(again, z, error(model, again, model.space.check(x)))


def error(model: Model, again: Batch, x: Batch) -> float:
    space = model.space
    if space.kind in ("tokens", "categories", "record"):
        return float(((again != x) & ~(again.isnan() & x.isnan())).double().mean())
    scaling = Scaling(space)
    bounded = space.bounds is not None or (space.discrete and not space.scale)
    return float((scaling(again) - scaling(x)).double().square().mean().sqrt()) / (2 if bounded else 1)


# -- interpolation


def interpolate(
    model: Model,
    x: Batch | Any,
    condition: Conditions | Any | None = None,
    *,
    n: int = 8,
    path: Curve | None = None,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Batch:
    """Interpolations between pairs of examples by their codes, (B // 2, n, *shape): 0 to 1, 2 to 3, …

    Args:
        condition: One for each example or one for all. The first half of an interpolation is decoded under the
            condition of its first example, the second half under that of the second.
        n: Number of results of an interpolation, including both ends.
        path: Of the codes; by default spherical for denoising models, whose codes are as long as noise, else linear.
    """
    refuse_without_encoder(model)
    x = model.space.check(x)
    y = given_condition(model, condition, len(x))
    z = between(model, encode(model, x, y, sampling_steps=sampling_steps, seed=seed), n=n, path=path)
    return decode(model, z.flatten(0, 1), ends(y, n), sampling_steps=sampling_steps).unflatten(0, z.shape[:2])


def between(model: Model, z: Codes, *, n: int = 8, path: Curve | None = None) -> Tensor:
    """Codes between pairs of codes, (B // 2, n, *latent)."""
    refuse_discrete_codes(model)
    n = whole("n", n, low=2)
    if len(z) < 2:
        raise BadInput(f"from one example to another needs 2 of them, got {len(z)}", "give more")
    if path not in PATHS and path is not None:
        raise BadInput(f"path must be one of {', '.join(PATHS)}, got {path!r}", "choose one")
    curve = PATHS[path or ("spherical" if has(model, Denoising) else "linear")]
    weight = torch.linspace(0, 1, n)
    return torch.stack([curve(first, second, weight) for first, second in zip(z[:-1:2], z[1::2], strict=True)])


def ends(y: Conditions | None, n: int) -> Conditions | None:
    """The condition of the nearer end, for each of n results of each pair."""
    if y is None:
        return None
    nearer = (torch.linspace(0, 1, n) > 0.5).long()
    return y[torch.arange(0, len(y) - 1, 2)[:, None] + nearer].flatten(0, 1)


def linear(z: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """(1 - w) z + w z' for each w of ``weight``, (n, *latent)."""
    return torch.lerp(z[None], other[None], weight.reshape(-1, *[1] * z.ndim).to(z))


def spherical(z: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    r"""Spherical interpolation between two codes, which keeps their norm where both have the same.

    .. math:: \frac{\sin((1 - w)\theta)}{\sin\theta} z + \frac{\sin(w\theta)}{\sin\theta} z',
        \qquad \cos\theta = \frac{z \cdot z'}{\|z\| \|z'\|}

    Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equation 67.

    Args:
        z, other: Two codes of the same shape.
        weight: (n,), 0 for ``z`` and 1 for ``other``.

    Returns:
        (n, *latent).
    """
    theta = torch.acos((z.flatten() @ other.flatten() / (z.norm() * other.norm())).clamp(-1, 1))
    if not theta.sin() > 1e-6:  # the same direction, the opposite one, or a code of zeros
        return linear(z, other, weight)
    w = weight.reshape(-1, *[1] * z.ndim).to(z)
    return (((1 - w) * theta).sin() * z + (w * theta).sin() * other) / theta.sin()


PATHS = {"linear": linear, "spherical": spherical}


# -- traversal


class Spread(NamedTuple):
    """The distribution of each dimension of the codes of many examples.

    Attributes:
        loc, scale: Mean and standard deviation of draws of q(z|x), or of the code of x, (*latent).
        weight: The importance of each dimension: its mean divergence KL(q(z|x) || p(z)) where the model has one, else
            the standard deviation of the code of x.
    """

    loc: Tensor
    scale: Tensor
    weight: Tensor


def spread(model: Model, split: Split, *, seed: int = 0) -> Spread:
    """The `Spread` of the codes of the first `MOST` examples of a split, of a vae, an autoencoder or a flow. That of
    N(0, I) for a decoder alone and for a denoising model, which takes long to encode.
    """
    refuse_discrete_codes(model)
    of_type("the split", split, Split, "give a split of a data set, such as dataset.train")
    if has(model, Denoising) or not has_encoder(model):
        one = torch.ones(latent_shape(model))
        return Spread(torch.zeros_like(one), one, one)
    x, y = split.batch(torch.arange(min(MOST, len(split))), torch.Generator().manual_seed(seed))
    y = None if condition_of(model) is None else y
    mean = encode(model, x, y)
    with torch.random.fork_rng(), torch.no_grad(), evaluating(model):
        torch.manual_seed(seed)
        z = torch.cat([sample_code(model, *pair).cpu() for pair in batches(model, x, y)])
        weight = divergence(model, x, y)
    return Spread(z.mean(0), z.std(0), mean.std(0) if weight is None else weight.view_as(mean[0]))


def divergence(model: Model, x: Batch, y: Conditions | None) -> Tensor | None:
    """The mean divergence of each dimension of the code, (K,); None where it is not a sum over them."""
    if not has(model, CodeDivergence):
        return None
    kl = torch.cat([model.divergence(*pair).cpu() for pair in batches(model, x, y)]).mean(0)
    return kl if len(kl) == model.latent_space.dim else None


class Traversal(NamedTuple):
    """Examples, (D, n, *shape): in each row one dimension of a code varies.

    Attributes:
        dimensions: (D,), the number of each row's dimension in the flattened code.
    """

    x: Batch
    dimensions: Tensor


def traverse(
    model: Model,
    z: Codes,
    of: Spread,
    condition: Conditions | Any | None = None,
    *,
    dimensions: int = 10,
    n: int = 8,
    width: float = 2.0,
    sampling_steps: int = inversion.STEPS,
) -> Traversal:
    """A code with one dimension at a time set to n values, from ``width`` standard deviations below its mean to as many
    above.

    Args:
        z: One code, (*latent).
        of: The range of each dimension and its importance, as `spread` finds it.
        condition: One condition, for a conditional model.
        dimensions: Number of rows, at most; the dimension of the largest importance first.
    """
    refuse_discrete_codes(model)
    n, most = whole("n", n, low=2), whole("dimensions", dimensions, low=1)
    offsets = torch.linspace(-1, 1, n) * number("width", width)
    chosen = of.weight.flatten().argsort(descending=True, stable=True)[:most]
    values = of.loc.flatten()[chosen, None] + of.scale.flatten()[chosen, None] * offsets
    codes = varied(z.flatten(), chosen, values).unflatten(2, tuple(z.shape))
    x = decode(model, within(model, codes.flatten(0, 1)), condition, sampling_steps=sampling_steps)
    return Traversal(x.unflatten(0, codes.shape[:2]), chosen)


def varied(z: Tensor, dimensions: Tensor, values: Tensor) -> Tensor:
    """(D, n, K): the code z (K,), whose k-th of ``dimensions`` (D,) is replaced by each of ``values[k]`` (n,)."""
    codes = z.expand(*values.shape, -1).clone()
    return codes.scatter_(2, dimensions[:, None, None].expand(*values.shape, 1), values[..., None].to(z))


def within(model: Model, z: Codes) -> Codes:
    """Codes clamped to the bounds of the latent space, if it has any."""
    bounds = None if has(model, Denoising) else model.latent_space.bounds
    return z if bounds is None else z.clamp(*bounds)


# -- arithmetic


class Arithmetic(NamedTuple):
    """The examples of sums of codes, (B, *shape), and the code ``z`` of each.

    Attributes:
        terms: The decoded mean code of each term but ``x``, in the order of the expression.
    """

    x: Batch
    z: Codes
    terms: Batch


def arithmetic(
    model: Model,
    expression: str,
    dataset: Dataset,
    x: Batch | Any | None = None,
    condition: Conditions | Any | None = None,
    *,
    sampling_steps: int = inversion.STEPS,
    seed: int = 0,
) -> Arithmetic:
    """Sums and differences of mean codes and of an example's own code, decoded.

    Args:
        expression: Terms with + and - between them. A term is a label, or a part of the condition and its value: the
            mean code of at most `MOST` training examples that have it, as in ``"7 - 1 + 4"``; or ``x``, the code of
            each example, as in ``"x - glasses=1 + glasses=0"``. Codes under a GAN are found by descent, as by
            `dgm.edit.invert`, and a mean is of at most `SEARCHED` of them.
        dataset: The data with these labels, attributes or columns.
        x: The examples, if the expression has them.
        condition: For a conditional model, that of the examples and of the results.

    Raises:
        UnknownName: If the data does not have the label or the attribute.
    """
    refuse_discrete_codes(model)
    if not isinstance(model, AdversarialModel):
        refuse_without_encoder(model)
    most = SEARCHED if isinstance(model, AdversarialModel) else MOST
    of_type("the data", dataset, Dataset, "load it by dgm.data.load")
    terms = terms_of(expression)
    rows = {term.name: rows_of(term.name, dataset)[:most] for term in terms if term.name != OWN}
    if x is None and len(rows) < len({term.name for term in terms}):
        raise BadInput(f"'{expression}' has the code of an example, and there is none", "give x")
    how: dict[str, Any] = {"sampling_steps": sampling_steps, "seed": seed}
    means = {name: mean_code(model, dataset.train, part, **how) for name, part in rows.items()}
    own = None if x is None else codes_of(model, x, condition, **how)
    z = within(model, total(terms, means, own))
    y = given_condition(model, condition, len(z))
    shown = [means[term.name] for term in terms if term.name != OWN]
    every_y = None if y is None else torch.cat([y, y[:1].expand(len(shown), *y.shape[1:])])
    decoded = decode(model, torch.cat([z, *(mean[None] for mean in shown)]), every_y, sampling_steps=sampling_steps)
    return Arithmetic(decoded[: len(z)], z, decoded[len(z) :])


def total(terms: list[Term], means: dict[str, Tensor], own: Codes | None) -> Codes:
    """The sum of the terms, (B, *latent) with the codes ``own`` of examples, or (1, *latent) without."""
    codes = {name: mean[None] for name, mean in means.items()} | ({} if own is None else {OWN: own})
    return torch.stack(torch.broadcast_tensors(*(term.sign * codes[term.name] for term in terms))).sum(0)


def mean_code(model: Model, split: Split, rows: Tensor, *, sampling_steps: int, seed: int) -> Tensor:
    """The mean of the codes of these training examples, (*latent)."""
    x, y = split.batch(rows, torch.Generator().manual_seed(seed))
    y = None if condition_of(model) is None or has(model, Denoising) else y
    return codes_of(model, x, y, sampling_steps=sampling_steps, seed=seed).mean(0)


def codes_of(
    model: Model, x: Batch | Any, condition: Conditions | Any | None, *, sampling_steps: int, seed: int
) -> Codes:
    """Codes as by `encode`, or under a GAN by descent."""
    if not isinstance(model, AdversarialModel):
        return encode(model, x, condition, sampling_steps=sampling_steps, seed=seed)
    x, y = model.space.check(x), given_condition(model, condition, len(x))
    return latent_search.invert(model, x, y, seed=seed).cpu()
