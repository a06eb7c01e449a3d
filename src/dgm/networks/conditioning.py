"""Conditions for the networks of models: as a vector, as a sequence for cross-attention, or as feature maps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from dgm.distributions.scaling import Scaling
from dgm.networks.condition_embedding import ConditionEmbedding, Part, add_null, parts_of, pooled, values_of
from dgm.networks.conditions import is_label
from dgm.networks.embeddings import Sinusoidal
from dgm.networks.maps import Projection, resized
from dgm.protocols import Conditions, PartlyHidden
from dgm.space import Space

WIDTH = 64  # the default width of a condition's vector


class ConditionMaps(nn.Module):
    """A condition with images as feature maps, which have a vector for each position of x.

    The images of the condition are scaled, interpolated to the size of x and convolved. The mean embedding of the
    other parts is added at every position. Source of the maps: Conditional Image Generation with PixelCNN Decoders (van
    den Oord et al., 2016), arXiv:1606.05328, equation 5.

    Args:
        condition: The space of y, an image or a record with one.
        size: (H, W) of x.
    """

    def __init__(self, condition: Space, size: tuple[int, ...]) -> None:
        super().__init__()
        self.condition, self.width = condition, WIDTH
        self.parts: Iterable[Any] = maps_and_parts(condition, WIDTH, size, null=False)
        channels = sum(part.shape[0] for part in parts_of(condition) if is_image(part))
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        )

    def forward(self, y: Conditions, n: int) -> Tensor:
        """The maps (n, 64, H, W)."""
        images, vector = images_and_vector(self.parts, y, self.condition, n)
        maps = self.convolutions(images)
        return maps if vector is None else maps + vector[:, :, None, None]


class ConditionPixels(nn.Module):
    """A condition with images as one vector for a perceptron: the pixels of the images, scaled and interpolated to the
    size of x, and the sum of the embeddings of the other parts.

    Args:
        condition: The space of y, an image or a record with one.
        size: (H, W) of x.
    """

    def __init__(self, condition: Space, size: tuple[int, ...]) -> None:
        super().__init__()
        self.condition, parts = condition, parts_of(condition)
        self.parts: Iterable[Any] = maps_and_parts(condition, WIDTH, size, null=False)
        pixels = sum(part.shape[0] * math.prod(size) for part in parts if is_image(part))
        self.width = pixels + (0 if all(map(is_image, parts)) else WIDTH)

    def forward(self, y: Conditions, n: int) -> Tensor:
        """The vectors (n, width)."""
        images, vector = images_and_vector(self.parts, y, self.condition, n)
        return images.flatten(1) if vector is None else torch.cat([images.flatten(1), vector], 1)


def images_and_vector(parts: Iterable[Any], y: Conditions, condition: Space, n: int) -> tuple[Tensor, Tensor | None]:
    """The images of a condition (n, C, H, W), and the sum of the embeddings of the other parts, if there are any."""
    embeddings = [part(*of_part, n) for part, of_part in zip(parts, values_of(y, condition), strict=True)]
    vectors = [part for part in embeddings if part.ndim == 3]
    return torch.cat([part for part in embeddings if part.ndim == 4], 1), pooled(vectors) if vectors else None


def embedded(condition: Space, size: tuple[int, ...] | None, *, flat: bool = False) -> nn.Module:
    """The embedding of a condition: as maps of the size (H, W) of x if both are images, or else as a vector."""
    if size is None or not has_images(condition):
        return ConditionEmbedding(condition, WIDTH)
    return ConditionPixels(condition, size) if flat else ConditionMaps(condition, size)


class ConditionProjections(nn.Module):
    """A condition for many layers, each with its own projection V^T y.

    A label remains an integer, and each projection is a table; any other condition is embedded once, as a vector or,
    for images of an image, as maps.

    Args:
        condition: The space of y.
        size: (H, W) of x, for layers that take maps.

    Example:
        >>> read = ConditionProjections(Space.categories(3))
        >>> read.projection(8)(read(torch.tensor([0, 2]))).shape
        torch.Size([2, 8])
    """

    def __init__(self, condition: Space, size: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.labels = condition.values if is_label(condition) else 0
        self.embedding = None if self.labels else embedded(condition, size)

    def forward(self, y: Conditions) -> Tensor:
        """The input of the projections: (B,) labels, or the embedding (B, 64) or (B, 64, H, W)."""
        return y if self.embedding is None else self.embedding(y, len(y))

    def projection(self, outputs: int) -> nn.Module:
        """A module that maps the output of ``forward``, or its values at one position, to as many features."""
        return nn.Embedding(self.labels, outputs) if self.labels else Projection(WIDTH, outputs, bias=False)


def condition_vector(condition: Space | None, width: int) -> nn.Module | None:
    """A module that maps a batch of conditions to vectors (B, width), V^T y for a label; None without a condition."""
    if condition is None:
        return None
    return nn.Embedding(condition.values or 0, width) if is_label(condition) else ConditionVector(condition, width)


class ConditionVector(nn.Module):
    """A condition as one vector of the given width: a linear map of its embedding."""

    def __init__(self, condition: Space, width: int) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(condition, WIDTH)
        self.projection = nn.Linear(WIDTH, width, bias=False)

    def forward(self, y: Conditions) -> Tensor:
        """The vectors (B, width)."""
        return self.projection(self.embedding(y, len(y)))


class ConditionFeatures(nn.Module):
    """A condition as further inputs of a network: the one-hot vector of a label, or else the embedding.

    Args:
        condition: The space of y; None for no features.
        size: (H, W) of x, for a network that takes maps.
        flat: Whether the network is a perceptron of the flattened x, which takes the pixels of an image as a vector.

    Attributes:
        width: The number of features.
        has_maps: Whether they are maps (B, width, H, W).
        has_images: Whether they are maps, or a vector with the pixels of images.
    """

    def __init__(self, condition: Space | None, size: tuple[int, ...] | None = None, *, flat: bool = False) -> None:
        super().__init__()
        self.labels = (condition.values or 0) if is_label(condition) else 0
        self.embedding: Any = None
        self.width: int = self.labels
        if condition is not None and not self.labels:
            self.embedding = embedded(condition, size, flat=flat)
            self.width = self.embedding.width
        self.has_maps = isinstance(self.embedding, ConditionMaps)
        self.has_images = self.has_maps or isinstance(self.embedding, ConditionPixels)

    def forward(self, y: Conditions, like: Tensor) -> Tensor:
        """The features (B, width) or (B, width, H, W), with the dtype of ``like``."""
        return (one_hot(y, self.labels) if self.embedding is None else self.embedding(y, len(y))).to(like)


class Conditioned(NamedTuple):
    """The embedded times and conditions of a denoising network.

    Attributes:
        vector: The embedding of the times and of every part of the condition, (B, width).
        sequence: The embedding of the tokens for cross-attention, (B, L, width); None without tokens.
        maps: The images to concatenate with x, (B, C, H, W); None without images.
    """

    vector: Tensor
    sequence: Tensor | None = None
    maps: Tensor | None = None


class TimedConditioning(nn.Module):
    """The embedding of times and of a condition of any kind for a denoising network.

    Args:
        width: The width of the vectors.
        condition: The space of y; None for a network that is conditional on the time alone.
        dropout: The probability with which training hides a condition; if it is not 0, the null embedding is learnt.
        size: The size (H, W) of x if x is an image; images of the condition become maps of this size.
        times: The number of times.
    """

    def __init__(
        self,
        width: int,
        condition: Space | None = None,
        *,
        dropout: float = 0.0,
        size: tuple[int, int] | None = None,
        times: int = 1,
    ) -> None:
        super().__init__()
        self.embedding = Sinusoidal(width)
        self.time = nn.Sequential(nn.Linear(times * width, width), nn.SiLU(), nn.Linear(width, width))
        parts = [] if condition is None else parts_of(condition)
        self.condition = condition
        self.parts: Iterable[Any] = maps_and_parts(condition, width, size, null=dropout > 0)
        self.channels = sum(part.shape[0] for part in parts if size and is_image(part))  # the channels of the maps
        self.attends = [part.kind == "tokens" for part in parts]

    @property
    def has_sequence(self) -> bool:
        return any(self.attends)

    def forward(self, t: Tensor, y: Conditions | PartlyHidden | None) -> Conditioned:
        """Embeds times (B,) or (B, times) and a batch of conditions."""
        time = self.time(self.embedding(t.reshape(len(t), -1)).flatten(1))
        if self.condition is None:
            return Conditioned(silu(time))
        values = values_of(y, self.condition)
        embeddings = [part(*of_part, len(t)) for part, of_part in zip(self.parts, values, strict=True)]
        maps = [part for part in embeddings if part.ndim == 4]
        attended = [part for part, attends in zip(embeddings, self.attends, strict=True) if attends]
        vectors = [part for part in embeddings if part.ndim == 3]
        return Conditioned(
            silu(time + pooled(vectors) if vectors else time),
            torch.cat(attended, 1) if attended else None,
            torch.cat(maps, 1) if maps else None,
        )


def maps_and_parts(condition: Space | None, width: int, size: tuple[int, ...] | None, *, null: bool) -> nn.ModuleList:
    """The embedding of each part: a `Map` of an image if x has a size, or else a `Part`."""
    parts = [] if condition is None else parts_of(condition)
    return nn.ModuleList(
        Map(part, size, null=null) if size and is_image(part) else Part(part, width, null=null) for part in parts
    )


class Map(nn.Module):
    """An image of the condition, scaled and interpolated to the given size.

    Source: Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636, section 2.3.
    """

    null: Tensor

    def __init__(self, space: Space, size: tuple[int, ...], *, null: bool) -> None:
        super().__init__()
        self.scaling, self.size = Scaling(space), size
        add_null(self, space.shape[0], learnt=null or space.optional)

    def forward(self, y: Tensor | None, given: Tensor | None, n: int) -> Tensor:
        """The maps (n, C, *size); the null embedding, one number for each channel, where ``given`` is False."""
        null = self.null[:, None, None]
        if y is None:
            return null.expand(n, -1, *self.size)
        z = resized(self.scaling(y), self.size)
        return z if given is None else torch.where(given[:, None, None, None], z, null)


def has_images(condition: Space | None) -> TypeGuard[Space]:
    return condition is not None and any(map(is_image, parts_of(condition)))


def is_image(space: Space) -> bool:
    return len(space.shape) == 3 and space.kind in ("binary", "levels", "continuous")
