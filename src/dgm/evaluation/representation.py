"""The codes of a trained model beside the labels, attributes or factors of its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm.data import Dataset, Split, order
from dgm.editing.codes import encode
from dgm.evaluation import disentanglement as measures
from dgm.protocols import Denoising, Latent, Model, condition_of, has

EXAMPLES = 2000  # of each split, at most
WIDEST = 512  # dimensions of a code that is judged
MOST_VALUES = 50  # of a factor


class Factor(NamedTuple):
    """The values (N,) of a label, an attribute or a part of the condition, and whether they are ordered."""

    name: str
    values: Tensor
    ordered: bool


def has_flat_codes(model: Model) -> bool:
    """Whether the model has real-valued codes that are vectors, computed without a solver."""
    if not has(model, Latent) or has(model, Denoising):
        return False
    space = model.latent_space
    return not space.discrete and len(space.shape) == 1 and space.dim <= WIDEST


def factors(dataset: Dataset, y: Tensor) -> Iterator[Factor]:
    """The discrete parts of a batch of conditions, without those of many values or with missing ones."""
    condition, names = dataset.condition, dataset.names
    if condition is None:
        return
    if dataset.labels:
        yield Factor("label", y, ordered=False)
    elif condition.kind == "binary" and len(condition.shape) == 1:
        columns = names.columns or tuple(map(str, range(condition.dim)))
        yield from (Factor(name, y[:, k].long(), ordered=True) for k, name in enumerate(columns))
    elif condition.kind == "record":
        values = condition.split(y)
        for name, part in condition.parts:
            if part.discrete and part.dim == 1 and not part.optional and (part.values or 0) <= MOST_VALUES:
                yield Factor(name, values[name].flatten().long(), ordered=part.kind != "categories")


def judged(model: Model, dataset: Dataset, split: str, seed: int = 0) -> dict[str, Any] | None:
    """The measures of codes; None for a model without codes that are vectors, or data without labels or factors.

    Returns:
        ``probe``, the accuracy of a linear probe of each factor, beside ``most_frequent``, that of its most frequent
        value; of labels ``ari`` and ``nmi`` of k-means; of several factors ``mig``, ``sap``, ``disentanglement``,
        ``completeness``, ``informativeness`` and ``factor_vae``; and ``n`` and ``rule``.
    """
    train, real = dataset.train, dataset.splits[split]
    if not has_flat_codes(model) or train.y is None or real.y is None or not list(factors(dataset, train.y[:1])):
        return None
    (z, found), (held_out_z, held_out) = (coded(model, dataset, part, seed) for part in (train, real))
    pairs = list(zip(found, held_out, strict=True))
    document: dict[str, Any] = {
        "probe": {a.name: measures.linear_probe(z, a.values, held_out_z, b.values) for a, b in pairs},
        "most_frequent": {a.name: float((b.values == a.values.mode().values).double().mean()) for a, b in pairs},
        "n": len(held_out_z),
        "rule": f"fitted to the codes of {len(z):,} training examples",
    }
    if dataset.labels:
        document |= measures.clustering(held_out_z, held_out[0].values, seed=seed)._asdict()
    if len(found) > 1 and z.shape[1] > 1:
        document |= of_factors(z, found, held_out_z, held_out, seed)
    return document


def of_factors(z: Tensor, found: list[Factor], held_out_z: Tensor, held_out: list[Factor], seed: int) -> dict[str, Any]:
    varying = [k for k, factor in enumerate(held_out) if len(factor.values.unique()) > 1]
    v, held_out_v = (torch.stack([part[k].values for k in varying], 1) for part in (found, held_out))
    ordered = [held_out[k].ordered for k in varying]
    return {
        "mig": measures.mutual_information_gap(held_out_z, held_out_v),
        "sap": measures.separated_attribute_predictability(held_out_z, held_out_v, ordered),
        **measures.dci(z, v, held_out_z, held_out_v, seed=seed)._asdict(),
        "factor_vae": measures.factor_vae_score(held_out_z, held_out_v, seed=seed),
    }


def coded(model: Model, dataset: Dataset, split: Split, seed: int) -> tuple[Tensor, list[Factor]]:
    """The codes of a drawn part of a split, and its factors."""
    x, y = split.batch(order(len(split), seed, 0)[:EXAMPLES], torch.Generator().manual_seed(seed))
    assert y is not None  # checked by `judged`
    return encode(model, x, None if condition_of(model) is None else y).double(), list(factors(dataset, y))
