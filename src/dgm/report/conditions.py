"""Samples of given conditions: one row for each condition, with the condition on the left."""

from __future__ import annotations

from textwrap import wrap

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dgm.condition import decode
from dgm.data import Dataset
from dgm.data.dataset import matching
from dgm.data.palette import in_colour
from dgm.protocols import Batch
from dgm.report.lettering import short
from dgm.report.pictures import grid
from dgm.space import Space

ROWS, MOST_LABELS, COLUMNS = 6, 10, 6  # conditions of a picture, labels of one, and samples of each
CELL = 48  # pixels of a sample's longer side
LETTERS, LINE = 20, 15  # of a line of a condition's words, and pixels from one line to the next


def conditions_shown(dataset: Dataset, split: str) -> Tensor:
    """The labels in their order, or else the first different conditions of the split, (rows, *shape)."""
    y = dataset.splits[split].y
    if dataset.labels:
        return torch.arange(min(len(dataset.labels), MOST_LABELS))
    assert y is not None  # a data set with a condition has one of each example
    found: list[Tensor] = []
    for one in y:
        if len(found) < ROWS and not any(len(matching(other[None], one)) for other in found):
            found.append(one)
    return torch.stack(found)


def real_rows(dataset: Dataset, split: str, y: Tensor) -> list[Tensor]:
    """The first examples of the split that have each condition."""
    part = dataset.splits[split]
    assert part.y is not None
    return [part.batch(matching(part.y, one)[:COLUMNS], torch.Generator().manual_seed(0))[0] for one in y]


def picture(rows: list[Batch], y: Tensor, dataset: Dataset) -> Image.Image:
    """A row a condition: its words, or the picture that it is, and images of it.

    Args:
        rows: (n, C, H, W) of each condition.
    """
    assert dataset.condition is not None
    words = [decode(one, dataset.condition, dataset.names) for one in y]
    pictured = len(dataset.condition.shape) == 3
    cells = [strip(x, dataset) for x in rows]
    left = [
        strip(one[None], dataset, dataset.condition) if pictured else lettered(text)
        for one, text in zip(y, words, strict=True)
    ]
    heights = [max(a.height, b.height) + 4 for a, b in zip(left, cells, strict=True)]
    beside = max(image.width for image in left) + 8
    canvas = Image.new("RGB", (beside + max(image.width for image in cells), sum(heights)), "white")
    top = 0
    for label, row, height in zip(left, cells, heights, strict=True):
        canvas.paste(label, (0, top + (height - label.height) // 2))
        canvas.paste(row, (beside, top))
        top += height
    return canvas


def strip(x: Batch, dataset: Dataset, space: Space | None = None) -> Image.Image:
    """Images side by side."""
    if not len(x):
        return Image.new("RGB", (1, 1), "white")
    x, space = in_colour(x, dataset.space, dataset.describe()) if space is None else (x, space)
    return grid(x, space, columns=len(x), scale=max(1, round(CELL / max(space.shape[1:]))))


def lettered(words: str) -> Image.Image:
    """The words of a condition, a part of it in each line."""
    font = ImageFont.load_default(12)
    parts = [part for cell in words.replace(",", ",\n").split("\n") for part in wrap(short(cell, 200), LETTERS) or [""]]
    canvas = Image.new("RGB", (7 * max(map(len, parts)) + 4, LINE * len(parts) + 4), "white")
    pen = ImageDraw.Draw(canvas)
    for k, part in enumerate(parts):
        pen.text((2, LINE * k + 1), part, fill="black", font=font)
    return canvas
