"""The codes of a first stage as the data of a prior: computed once and stored, or drawn again by a random encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm import registry
from dgm.data import Dataset, Split, order
from dgm.data.storage import stored
from dgm.inputs import model_given, of_type
from dgm.likelihood import evaluation_batch
from dgm.models.two_stage import TwoStage, sample_code
from dgm.modes import device_of, evaluating
from dgm.protocols import Codes, Conditions, Model, Variational, condition_of, has
from dgm.space import Space

MOMENTS = 50_000  # training examples whose codes give the location and scale
NEGLIGIBLE = 1e-12  # relative to a code's location: a smaller scale is a rounding error


def two_stage(
    name: str, first_stage: Model, dataset: Dataset, condition: Space | None = None, **config: Any
) -> TwoStage:
    """A trained first stage and an untrained prior of its codes, as one model that `dgm.fit` trains.

    The prior's space has the location and scale of the codes of ``dataset``, with which models standardise. Differs
    from Rombach et al. (2021), arXiv:2112.10752, appendix G, who divide by one scale.

    Args:
        name: The name of the prior, as in `dgm.create`.
        first_stage: A trained `dgm.protocols.Latent`, such as `dgm.load` returns.
        condition: The prior's space of y, such as ``dataset.condition``.
        config: The settings of the prior.

    Example:
        >>> import dgm
        >>> digits = dgm.data.load("digits")
        >>> first_stage = dgm.create("autoencoder", digits.space, latent=4)
        >>> dgm.two_stage("gmm", first_stage, digits).prior.space.shape
        (4,)
    """
    model_given(first_stage)
    of_type("the data", dataset, Dataset, "load it by dgm.data.load")
    TwoStage.refuse_without_codes(first_stage, dataset.space)
    prior = registry.create(name, standardised(first_stage, dataset), condition, **config)
    return TwoStage.of(first_stage, prior)


@torch.no_grad()
def standardised(first_stage: Model, dataset: Dataset) -> Space:
    """The latent space with the location and scale of the training split's codes: of each number of a flat code, or of
    each channel of a code with more dimensions. A discrete or bounded space is returned unchanged.
    """
    space: Space = first_stage.latent_space
    if space.discrete or space.bounds or space.scale:
        return space
    rows = order(len(dataset.train), 0, 0)[:MOMENTS]
    with torch.random.fork_rng(), evaluating(first_stage):
        torch.manual_seed(0)
        blocks = rows.split(evaluation_batch(first_stage))
        z = torch.cat([encoded(first_stage, *dataset.train.batch(block)).cpu().double() for block in blocks])
    axes = [0, *range(2, z.ndim)]
    loc, scale = z.mean(axes, keepdim=True), z.std(axes, keepdim=True)
    scale = torch.where(scale > NEGLIGIBLE * loc.abs(), scale, 1.0)
    loc, scale = (v.expand(1, *space.shape).flatten() for v in (loc, scale))
    return replace(space, loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))


def encoded(first_stage: Model, x: Tensor, y: Conditions | None) -> Codes:
    """The codes of a batch, on the first stage's device."""
    device = device_of(first_stage)
    return sample_code(first_stage, x.to(device), None if y is None else y.to(device))


def coded(model: TwoStage, dataset: Dataset) -> Dataset:
    """The codes of the training and of the validation split, with their conditions."""
    train, validation = (of_split(model.first_stage, split) for split in (dataset.train, dataset.validation))
    none = Split(train.x[:0], None if train.y is None else train.y[:0])
    about: dict[str, Any] = {"space": model.prior.space, "columns": (), "alphabet": "", "palette": "", "rate": 0}
    return replace(dataset, train=train, validation=validation, test=none, **about)


def of_split(first_stage: Model, split: Split) -> Split:
    if len(split) == 0 or split.transform is not None or draws_codes(first_stage):
        return DrawnCodes(split.x, split.y, split.transform, encode=lambda x, y: encoded(first_stage, x, y))
    return Split(cached_codes(first_stage, split), split.y)


def draws_codes(first_stage: Model) -> bool:
    """Whether the encoder is random, so that an example has another code each time."""
    return has(first_stage, Variational) and not getattr(first_stage, "deterministic_codes", False)


@dataclass(frozen=True)
class DrawnCodes(Split):
    """A split whose codes are computed from each batch when it is loaded."""

    encode: Callable[[Tensor, Tensor | None], Tensor] = field(kw_only=True)

    @torch.no_grad()
    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        x, y = super().batch(indices, generator)
        return self.encode(x, y), y


def cached_codes(first_stage: Model, split: Split) -> Tensor:
    """The code of each example, from the user's cache, which stores the codes once for these weights and this data."""
    space: Space = first_stage.latent_space

    @torch.no_grad()
    def fill(out: numpy.ndarray) -> None:
        with evaluating(first_stage):
            for rows in torch.arange(len(split)).split(evaluation_batch(first_stage)):
                out[int(rows[0]) : int(rows[-1]) + 1] = encoded(first_stage, *split.batch(rows)).cpu().numpy()

    dtype = str(space.dtype).removeprefix("torch.")
    return stored((len(split), *space.shape), dtype, fill, f"codes-{key(first_stage, split)}", in_memory=False)


def key(first_stage: Model, split: Split) -> str:
    """A hash of the first stage, with its weights, and of the examples that it encodes."""
    digest = hashlib.sha256(repr(registry.describe(first_stage)).encode())
    tensors = dict(sorted(first_stage.state_dict().items())) | {"x": split.x}
    if split.y is not None and condition_of(first_stage) is not None:
        tensors["y"] = split.y
    for name, tensor in tensors.items():
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        for block in tensor.detach().reshape(-1).split(1 << 24):
            digest.update(block.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
