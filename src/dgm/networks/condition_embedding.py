"""The embedding of a condition of any kind, as one vector or as a sequence of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.networks.mlp import mlp
from dgm.networks.transformer import Layer
from dgm.protocols import Conditions, PartlyHidden
from dgm.space import Space

TEXT_LAYERS = 2  # of the transformer that embeds a sequence of tokens
SMALLEST = 4  # the longest side of an image's last feature map


class ConditionEmbedding(nn.Module):
    """The embedding of any condition, as one vector or as a sequence of vectors.

    The parts of a record are embedded separately; any other condition is a single part. Categories are embedded by a
    table, numbers by a perceptron, an image by convolutions, and tokens by a small transformer. If a part is missing,
    or the condition is hidden, a learnt vector replaces it: the null embedding.

    Args:
        condition: The space of y.
        width: The width of each vector.
        null: Whether the condition may be hidden, so that the null embedding is learnt; otherwise it is 0.

    Example:
        >>> embedding = ConditionEmbedding(Space.binary((5,)), 8)
        >>> embedding(torch.zeros(3, 5, dtype=torch.uint8), 3).shape
        torch.Size([3, 8])
    """

    def __init__(self, condition: Space, width: int, *, null: bool = False) -> None:
        super().__init__()
        self.condition, self.width = condition, width
        self.parts: Iterable[Any] = nn.ModuleList(Part(part, width, null=null) for part in parts_of(condition))

    @property
    def length(self) -> int:
        """The total length of the sequences of all parts."""
        return sum(part.embedding.length for part in self.parts)

    def forward(self, y: Conditions | PartlyHidden | None, n: int) -> Tensor:
        """The vectors (n, width): the sum over the parts of the mean over each part's sequence. None hides all n."""
        return pooled(self.sequences(y, n))

    def sequences(self, y: Conditions | PartlyHidden | None, n: int) -> list[Tensor]:
        """The sequence of each part, (n, L, width), where L depends on the part."""
        values = values_of(y, self.condition)
        return [part(*of_part, n) for part, of_part in zip(self.parts, values, strict=True)]


class Part(nn.Module):
    """A condition, or one part of a record, as a sequence of vectors."""

    null: Tensor

    def __init__(self, space: Space, width: int, *, null: bool) -> None:
        super().__init__()
        self.embedding = embedding_of(space, width)
        add_null(self, width, learnt=null or space.optional)

    def forward(self, y: Tensor | None, given: Tensor | None, n: int) -> Tensor:
        """The sequences (n, L, width), with the null embedding in the rows where ``given``, (n,), is False."""
        if y is None:
            return self.null.expand(n, 1, -1)
        sequence = self.embedding(y)
        return sequence if given is None else torch.where(given[:, None, None], sequence, self.null)


def add_null(module: nn.Module, width: int, *, learnt: bool) -> None:
    if learnt:
        module.null = nn.Parameter(torch.randn(width))
    else:
        module.register_buffer("null", torch.zeros(width), persistent=False)


def pooled(sequences: list[Tensor]) -> Tensor:
    """The vectors (n, width): the sum over the parts of the mean of each part's sequence (n, L, width)."""
    means = [sequence[:, 0] if sequence.shape[1] == 1 else sequence.mean(1) for sequence in sequences]
    return means[0] if len(means) == 1 else torch.stack(means).sum(0)


def parts_of(condition: Space) -> list[Space]:
    """The parts of a record; any other condition is the only part."""
    return [part for _, part in condition.parts] or [condition]


def values_of(y: Conditions | PartlyHidden | None, condition: Space) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """For each part its values, (B, *shape), and a mask of the known rows, (B,). The values are None if no row is
    known; the mask is None if all rows are known.
    """
    values, hidden = (y.y, y.hidden) if isinstance(y, PartlyHidden) else (y, None)
    shown = None if hidden is None else ~hidden
    if values is None:
        yield from ((None, None) for _ in parts_of(condition))
    elif condition.kind != "record":
        yield values, shown
    else:
        for (_, part), place in zip(condition.parts, condition.places.values(), strict=True):
            there = ~values[:, place].isnan().any(1) if part.optional else None
            of_part = values[:, place].nan_to_num().reshape(len(values), *part.shape)
            yield of_part, there if shown is None else shown if there is None else there & shown


# -- the embeddings of each kind, from (B, *shape) to a sequence (B, L, width)


def embedding_of(space: Space, width: int) -> nn.Module:
    if space.kind == "categories" and len(space.shape) < 2:
        return CategoryEmbedding(space, width)
    if space.kind in ("tokens", "categories"):
        return TokenEmbedding(space, width)
    return (ImageEmbedding if len(space.shape) == 3 else NumberEmbedding)(space, width)


class CategoryEmbedding(nn.Module):
    """One vector for each category, from a table for each position."""

    places: Tensor

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        values, self.length = space.values or 0, space.dim
        self.table = nn.Embedding(space.dim * values, width)
        self.register_buffer("places", torch.arange(space.dim) * values, persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        return self.table(y.reshape(len(y), -1).long() + self.places)


class NumberEmbedding(nn.Module):
    """One vector for all numbers, or for all zeros and ones: a perceptron of the standardised values."""

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        self.scaling, self.length = Scaling(space), 1
        self.perceptron = mlp([space.dim, width, width])

    def forward(self, y: Tensor) -> Tensor:
        return self.perceptron(self.scaling(y).reshape(len(y), 1, -1))


class ImageEmbedding(nn.Module):
    """The embedding of an image (C, H, W): convolutions halve its sides until the longer side is at most 4."""

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        self.scaling = Scaling(space)
        layers: list[nn.Module] = [nn.Conv2d(space.shape[0], width, 3, padding=1)]
        height, across = space.shape[1:]
        while max(height, across) > SMALLEST:
            layers += [nn.SiLU(), nn.Conv2d(width, width, 3, stride=2, padding=1)]
            height, across = -(-height // 2), -(-across // 2)
        self.length = height * across
        self.convolutions = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, width, 1))

    def forward(self, y: Tensor) -> Tensor:
        return self.convolutions(self.scaling(y)).flatten(2).mT


class TokenEmbedding(nn.Module):
    """The embedding of tokens: a transformer with learnt positions and without a causal mask."""

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        self.length = space.dim
        self.table = nn.Embedding(space.values or 0, width)
        self.positions = nn.Parameter(torch.randn(space.dim, width))
        heads = next(heads for heads in (4, 2, 1) if width % heads == 0)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(TEXT_LAYERS)))

    def forward(self, y: Tensor) -> Tensor:
        return self.layers(self.table(y.reshape(len(y), -1).long()) + self.positions)
