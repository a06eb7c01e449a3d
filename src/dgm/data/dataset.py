"""A data set: three splits of one space, with batches by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from dgm.condition import Names
from dgm.data.columns import Column
from dgm.data.modes import Modes
from dgm.seeds import mix
from dgm.space import Space

WINDOW = 4096  # consecutive examples of shards that are shuffled together


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of ``n`` examples in an epoch, (n,) int64. It is a pure function, so no state of a loader is saved.

    Example:
        >>> bool((order(5, 0, 3) == order(5, 0, 3)).all())
        True
    """
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, epoch) >> 1))


def order_of_shards(shards: Sequence[int], seed: int, epoch: int) -> Tensor:
    """The order of the examples of shards of these sizes, (sum of the sizes,) int64; a pure function too.

    The shards are permuted; then each `WINDOW` consecutive examples are shuffled.

    Example:
        >>> order_of_shards([2, 3], 0, 0).sort().values
        tensor([0, 1, 2, 3, 4])
    """
    generator = torch.Generator().manual_seed(mix(seed, epoch) >> 1)
    ranges = torch.arange(sum(shards)).split(list(shards))
    in_turn = torch.cat([ranges[k] for k in torch.randperm(len(shards), generator=generator).tolist()])
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in in_turn.split(WINDOW)])


@dataclass(frozen=True)
class Split:
    """One split of a data set, in memory or memory-mapped.

    Attributes:
        x: The examples, (N, *shape), in the data's own numbers.
        y: The condition of each example, a batch (N, *shape) of `Dataset.condition`, such as (N,) int64 labels; or
            None.
        transform: Applied to each batch when it is loaded, such as dynamic binarisation; None for no transform.
        shards: The number of examples in each file, for files that should be read sequentially; empty otherwise.
    """

    x: Tensor
    y: Tensor | None = None
    transform: Callable[[Tensor, torch.Generator | None], Tensor] | None = None
    shards: tuple[int, ...] = ()

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of the examples in an epoch, (N,) int64."""
        return order_of_shards(self.shards, seed, epoch) if self.shards else order(len(self), seed, epoch)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """The examples at ``indices``; the transform draws its random numbers from ``generator``."""
        x = self.x[indices]
        if self.transform is not None:
            x = self.transform(x, generator)
        return x, None if self.y is None else self.y[indices]

    def given(self, y: Tensor) -> Split:
        """The examples whose condition is ``y``, of shape (*shape)."""
        rows = torch.arange(len(self)) if self.y is None else matching(self.y, y)
        return replace(self, x=self.x[rows], y=None if self.y is None else self.y[rows], shards=())


def matching(conditions: Tensor, y: Tensor) -> Tensor:
    """The rows of a batch of conditions that equal ``y``; two missing values are equal."""
    same = (conditions == y) | (conditions.isnan() & y.isnan())
    return same.flatten(1).all(1).nonzero()[:, 0] if same.ndim > 1 else same.nonzero()[:, 0]


@dataclass(frozen=True)
class Conditions:
    """The conditions of all examples.

    Attributes:
        space: The space of y.
        y: The condition of each example, (N, *space.shape).
        names: The names of the numbers of y.
    """

    space: Space
    y: Tensor
    names: Names

    @classmethod
    def of_labels(cls, y: Tensor, labels: Sequence[str], column: str | None = None) -> Conditions:
        """The conditions of (N,) labels, numbers from 0, with their names, and with that of their column in a table."""
        names = Names(labels=tuple(labels), columns=(column,) if column else ())
        return cls(Space.categories(len(labels)), y.long(), names)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set with its space.

    Attributes:
        name: The name or the path with which `dgm.data.load` loads it.
        split: A description of the splits, for the footnote of a table.
        condition: The space of y; None if the examples have no condition.
        names: The names of the numbers of y: labels, attributes or words.
        columns: The columns of a table; empty for other data.
        alphabet: The character of each token of a text; empty for bytes and for other data.
        rate: The sampling rate of sound in Hz; 0 for other data.
        palette: The colour of each token of an image, six hexadecimal digits each; empty for other data.
        options: The options of `dgm.data.load` with which it was loaded.
        log_prob: The true log-density in nats, if it is known.
        modes: The modes of the data, if they are known.
        channels: The data set whose examples are the channels of this one's; None for other data.
    """

    name: str
    space: Space
    train: Split
    validation: Split
    test: Split
    split: str
    condition: Space | None = None
    names: Names = field(default_factory=Names)
    columns: tuple[Column, ...] = ()
    alphabet: str = ""
    rate: int = 0
    palette: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    log_prob: Callable[[Tensor], Tensor] | None = None
    modes: Modes | None = None
    channels: Dataset | None = None

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels if the condition is one label; empty otherwise."""
        if self.condition is None or (self.condition.kind, self.condition.shape) != ("categories", ()):
            return ()
        return self.names.labels or tuple(map(str, range(self.condition.values or 0)))

    def describe(self) -> dict[str, Any]:
        """The source of the numbers, with the arguments of `dgm.data.load` that load the same data again."""
        return {
            "name": self.name,
            "options": dict(self.options),
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "split": self.split,
            **({} if self.condition is None else {"condition": self.describe_condition(self.condition)}),
            "columns": [column.to_json() for column in self.columns],
            "alphabet": self.alphabet,
            "rate": self.rate,
            "palette": self.palette,
            "sha256": fingerprint(self.train.x),
        }

    def describe_condition(self, space: Space) -> dict[str, Any]:
        y = self.train.y
        held = {} if y is None else {"sha256": fingerprint(y)}
        return {"space": space.to_json(), "names": self.names.to_json(), **held}


def labelled(labels: Sequence[str]) -> dict[str, Any]:
    """The arguments of `Dataset` for a condition that is one of these labels."""
    return {"condition": Space.categories(len(labels)), "names": Names(labels=tuple(labels))}


def fingerprint(x: Tensor, at_most: int = 1 << 26) -> str:
    """The sha256 of the tensor's shape and bytes; of a larger tensor, of its first 64 MiB."""
    if hasattr(x, "fingerprint"):  # examples that are decoded when a batch is loaded
        return str(x.fingerprint())
    rows = max(1, at_most // max(1, x[:1].nbytes))
    content = x[:rows].contiguous().numpy().tobytes()
    return hashlib.sha256(repr(tuple(x.shape)).encode() + content).hexdigest()


def consecutive(x: Tensor, conditions: Conditions | None, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The consecutive splits of ``x`` and their condition as arguments of `Dataset`. They are views, so memory-mapped
    tensors stay memory-mapped.
    """
    y, about = None, {}
    if conditions is not None:
        y, about = conditions.y, {"condition": conditions.space, "names": conditions.names}
    ends = list(accumulate(sizes.values()))
    runs = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
    return about | {name: Split(x[rows], None if y is None else y[rows]) for name, rows in runs.items()}


def shuffled(n: int, seed: int) -> tuple[Tensor, dict[str, int]]:
    """A seeded permutation of ``n`` rows, and the sizes of its splits: 80 %, 10 % and the rest for the test split."""
    train, validation = round(0.8 * n), round(0.1 * n)
    return order(n, seed, 0), {"train": train, "validation": validation, "test": n - train - validation}
