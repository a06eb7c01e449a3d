"""Images whose channels are independent examples of another data set, so that its K labels make K^C modes."""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.condition import Names
from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput
from dgm.seeds import mix
from dgm.space import Space

SEED = 2017


def stacked(dataset: Dataset, name: str, *, channels: int, copies: int = 1) -> Dataset:
    """Each example is ``channels`` independent examples of ``dataset``, and its condition their labels.

    Channel c of a split is a permutation of the split's own examples, so that each of them occurs once a channel; with
    more ``copies`` that many permutations follow one another.

    Source: Unrolled Generative Adversarial Networks (Metz et al., 2016), arXiv:1611.02163, section 3.3.1. Differs from
    it: permutations in place of draws with replacement.

    Args:
        dataset: Grey images with labels.
    """
    if dataset.space.shape[0] != 1 or not dataset.labels:
        raise BadInput(f"{dataset.name} has no grey images with labels to stack", "take mnist or digits")
    shape = (channels, *dataset.space.shape[1:])
    space = Space.levels(shape, dataset.space.values or 0)
    splits = {part: of_split(split, k, channels, copies) for k, (part, split) in enumerate(dataset.splits.items())}
    return Dataset(
        name=name,
        space=space,
        split=f"{dataset.split}; each channel is a permutation of the split, seed {SEED}",
        condition=Space(kind="categories", shape=(channels,), values=len(dataset.labels)),
        names=Names(labels=dataset.labels),
        channels=dataset,
        **splits,  # type: ignore[arg-type]
    )


def of_split(split: Split, number: int, channels: int, copies: int) -> Split:
    assert split.y is not None  # a labelled data set
    rows = torch.stack([permutations(len(split), copies, mix(SEED, number, c)) for c in range(channels)], 1)
    return Split(split.x[rows].squeeze(2), split.y[rows])


def permutations(n: int, copies: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed >> 1)
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(copies)])
