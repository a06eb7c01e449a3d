"""Images that are decoded when their batch is loaded, so that a data set may be larger than memory."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from torch import Tensor

from dgm.condition import Names
from dgm.data import folder
from dgm.data.dataset import Dataset, Split, shuffled
from dgm.space import Space

LOOKED_AT = 1000  # images whose headers decide the common shape
IN_FINGERPRINT = 200  # the number of first images
FEW = 8  # up to this number of images, one thread decodes all


class Encoded(io.BytesIO):
    """The bytes of an image, with its name for messages of errors."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


class Indexed:
    """Examples that are indexed like a tensor uint8 of the shape ``shape``, and computed when they are indexed."""

    dtype, device = torch.uint8, torch.device("cpu")
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


class Lazy(Indexed):
    """Encoded images that are indexed like a tensor (N, C, H, W) uint8; indexing decodes them.

    Args:
        read: Returns the encoded image of a row of the source.
        rows: The rows of the source, (N,).
        shape: The shape (C, H, W) of each image after resizing and cropping.
    """

    def __init__(self, read: Callable[[int], Encoded], rows: Tensor, shape: tuple[int, ...]) -> None:
        self.read, self.rows, self.shape = read, rows, torch.Size((len(rows), *shape))
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def __getitem__(self, index: Any) -> Tensor:
        rows = self.rows[index]
        images = list(self.decoded(rows.reshape(-1).tolist()))
        stacked = torch.from_numpy(numpy.stack(images)) if images else torch.empty(0, *self.shape[1:], dtype=self.dtype)
        return stacked.view(*rows.shape, *self.shape[1:])

    def decoded(self, rows: Sequence[int]) -> Any:
        return (map if len(rows) <= FEW else self.pool.map)(self.pixels, rows)

    def pixels(self, row: int) -> numpy.ndarray:
        return folder.pixels(cast(Path, self.read(row)), tuple(self.shape[1:]))

    def fingerprint(self) -> str:
        """The sha256 of the shape, the order and the first encoded images."""
        digest = hashlib.sha256(repr(tuple(self.shape)).encode() + self.rows.numpy().tobytes())
        for row in self.rows[:IN_FINGERPRINT].tolist():
            digest.update(self.read(row).getvalue())
        return digest.hexdigest()


def shape_of(read: Callable[[int], Encoded], n: int, size: int | None, *, grey: bool) -> tuple[int, int, int]:
    """The common shape (C, H, W), from the headers of at most `LOOKED_AT` evenly spaced images of the source."""
    some = torch.linspace(0, n - 1, min(n, LOOKED_AT)).long().tolist()
    return folder.common_shape([cast(Path, read(row)) for row in some], size, grey)


def dataset(
    name: str,
    read: Callable[[int], Encoded],
    parts: dict[str, Tensor],
    shape: tuple[int, int, int],
    y: Tensor | None,
    labels: Sequence[str],
    *,
    split: str,
    shards: Sequence[int] = (),
) -> Dataset:
    """A data set of images of 256 levels and their labels.

    Args:
        parts: The rows of the source in each split, in order.
        y: A label for each row of the source.
        shards: The number of rows in each shard of the source, for shards that are read sequentially.
    """
    ends = torch.tensor(shards).cumsum(0)

    def of(rows: Tensor) -> Split:
        counts = torch.searchsorted(ends, rows, right=True).bincount(minlength=len(shards)).tolist() if shards else ()
        # it is indexed like a tensor but is none
        x = cast(Tensor, Lazy(read, rows, shape))
        return Split(x, None if y is None else y[rows], shards=tuple(counts))

    about: dict[str, Any] = {}
    if y is not None:
        about = {"condition": Space.categories(len(labels)), "names": Names(labels=tuple(labels))}
    about |= {name: of(rows) for name, rows in parts.items()}
    return Dataset(name=name, space=Space.levels(shape, 256), split=split, **about)


def drawn_parts(n: int, seed: int) -> dict[str, Tensor]:
    """The rows of each split, drawn with the seed, in the order of the source."""
    rows, sizes = shuffled(n, seed)
    parts = rows.split(list(sizes.values()))
    return {name: part.sort().values for name, part in zip(sizes, parts, strict=True)}
