"""Colour images as one token for each pixel: the nearest colour of a palette.

A likelihood of these tokens is a likelihood of the quantised images, not of the original 256 levels of red, green and
blue, and the two must not be compared.

Source: Generative pretraining from pixels (Chen et al., 2020), on reducing the context: 512 clusters of (R, G, B) by
k-means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput
from dgm.space import Space

PIXELS = 100_000  # pixels of the training split from which the palette is computed
ROWS = 1024  # images that are quantised together


def clustered(dataset: Dataset, colours: int) -> Dataset:
    """The data set with its pixels as tokens, (N, 1, H, W), and with the palette.

    Raises:
        BadInput: If the images have no colours, or the palette has fewer than two.
    """
    space = dataset.space
    if len(space.shape) != 3 or space.shape[0] != 3 or space.values != 256:
        raise BadInput(f"--palette needs colour images, got {space}", "leave it out")
    if not 2 <= colours <= 4096:
        raise BadInput(f"--palette must be from 2 to 4096 colours, got {colours}", "the paper has 512")
    palette = colours_of(dataset.train.x, colours)
    train, validation, test = (Split(tokens(part.x, palette), part.y) for part in dataset.splits.values())
    space = Space.tokens((1, *space.shape[1:]), len(palette) // 6)
    return replace(dataset, space=space, palette=palette, train=train, validation=validation, test=test)


def colours_of(x: Tensor, colours: int) -> str:
    """The sorted means of ``colours`` clusters of the pixels of (N, 3, H, W), six hexadecimal digits each."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    step = max(1, len(x) * x[0, 0].numel() // PIXELS)
    pixels = x.movedim(1, 3).reshape(-1, 3)[::step].numpy().astype(numpy.float64)
    means = numpy.unique(pixels, axis=0)
    if len(means) > colours:
        with threadpool_limits(1):  # a sum in another order could round to another colour
            means = KMeans(colours, n_init=1, random_state=0).fit(pixels).cluster_centers_
    return numpy.unique(means.round().astype(numpy.uint8), axis=0).tobytes().hex()


def tokens(x: Tensor, palette: str) -> Tensor:
    """The token of the nearest colour of each pixel: uint8 (N, 3, H, W) to int16 (N, 1, H, W)."""
    from scipy.spatial import KDTree

    nearest = KDTree(table(palette))
    place = numpy.full(1 << 24, -1, numpy.int16)  # the token of each colour in x
    out = torch.empty(len(x), 1, *x.shape[2:], dtype=torch.int16)
    for rows in torch.arange(len(x)).split(ROWS):
        red, green, blue = x[rows].int().unbind(1)
        codes = (red << 16 | green << 8 | blue).numpy()
        new = numpy.unique(codes[place[codes] < 0])
        place[new] = nearest.query(numpy.stack([new >> 16, new >> 8 & 255, new & 255], 1))[1]
        out[rows, 0] = torch.from_numpy(place[codes])
    return out


def table(palette: str) -> numpy.ndarray:
    """The red, green and blue of each colour, uint8 (colours, 3)."""
    return numpy.frombuffer(bytes.fromhex(palette), numpy.uint8).reshape(-1, 3)


def in_colour(x: Tensor, space: Space, about: Mapping[str, Any]) -> tuple[Tensor, Space]:
    """A batch for display and its space: tokens of a palette become colours, other data is returned unchanged.

    Args:
        about: The description of the data in the run's config.json.
    """
    palette = about.get("palette")
    if not palette:
        return x, space
    colours = torch.from_numpy(table(palette).copy())[x[:, 0].long()].movedim(-1, 1)
    return colours, Space.levels((3, *space.shape[1:]), 256)
