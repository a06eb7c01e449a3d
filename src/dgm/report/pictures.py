"""Examples as pictures: images in a grid, points and tables as plots, a sampler's states side by side or in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy
import torch
from PIL import Image
from torch import Tensor

from dgm.errors import Unsupported
from dgm.protocols import Batch
from dgm.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISIBLE = 40  # pixels that an example's longer side is enlarged to, if it is smaller
SEPARATOR = 112
HISTOGRAMS = 9  # columns of a table that are shown
BINS = 24
FRAME_MS, LAST_MS = 80, 2000  # how long a state of an animation is seen, and the last one
POINTS, BEHIND = "#3057a8", "#c9c9c9"


def grid(x: Batch, space: Space, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Images (B, C, H, W) in rows, parted by grey lines as wide as a pixel of theirs; a single image has none.

    Args:
        columns: A square grid where none are given.
        scale: Every pixel becomes scale × scale; images that are smaller than a stamp are enlarged by default.

    Raises:
        Unsupported: For examples that are no grey or colour images.

    Example:
        >>> grid(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), Space.levels((1, 8, 8), 17), scale=2).size
        (34, 34)
    """
    if len(space.shape) != 3 or space.shape[0] not in (1, 3):
        raise Unsupported(f"a grid needs images of 1 or 3 channels, got {space}", "write them to a .csv or .npz file")
    _, height, width = space.shape
    scale = scale or max(1, round(VISIBLE / max(height, width)))
    columns = columns or math.ceil(math.sqrt(len(x)))
    height, width = scale * (height + 1), scale * (width + 1)
    canvas = numpy.full((math.ceil(len(x) / columns) * height, columns * width, 3), SEPARATOR, dtype=numpy.uint8)
    for k, image in enumerate(shades(x, space)):
        top, left = k // columns * height, k % columns * width
        canvas[top : top + height - scale, left : left + width - scale] = image.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(canvas[:-scale, :-scale])


def view(x: Batch, space: Space, beside: Batch | None = None) -> Image.Image:
    """Images in a grid, all else as `scatter` draws it."""
    return grid(x, space) if len(space.shape) == 3 else scatter(x, space, beside)


def strip(states: Sequence[Batch], space: Space) -> Image.Image:
    """A sampler's states from left to right: of images a row each, of points one plot a state."""
    if len(space.shape) == 3:
        return grid(torch.stack(tuple(states), 1).flatten(0, 1), space, columns=len(states))
    plots = [scatter(x, space, states[-1]) for x in states]
    canvas = Image.new("RGB", (sum(plot.width for plot in plots), plots[0].height), "white")
    for k, plot in enumerate(plots):
        canvas.paste(plot, (k * plot.width, 0))
    return canvas


def save_animation(pictures: Sequence[Image.Image], out: Path) -> None:
    """Pictures of one size after one another, as a GIF that starts again once the last was seen for a while."""
    first, *others = pictures
    seen = [FRAME_MS] * len(others) + [LAST_MS]
    first.save(out, format="GIF", save_all=True, append_images=others, duration=seen, loop=0)


def lines(texts: Sequence[str], columns: int = 40) -> Image.Image:
    """Texts under one another, a grey line between, in lines of at most ``columns`` characters."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    blocks = ["\n".join(part for line in words.split("\n") for part in wrap(line, columns) or [""]) for words in texts]
    height = [18 * (block.count("\n") + 1) + 12 for block in blocks]
    canvas = Image.new("RGB", (8 * columns, sum(height)), "white")
    pen, top = ImageDraw.Draw(canvas), 0
    for block, tall in zip(blocks, height, strict=True):
        pen.multiline_text((6, top + 5), block, fill="black", font=font)
        pen.line((0, top + tall - 1, canvas.width, top + tall - 1), fill=(SEPARATOR,) * 3)
        top += tall
    return canvas


def shades(x: Batch, space: Space) -> numpy.ndarray:
    """Images as uint8 (B, H, W, 3). Unbounded values are stretched from the batch's least to its greatest."""
    low, high = (0, space.values - 1) if space.values else space.bounds or (float(x.min()), float(x.max()))
    unit = (x.double() - low) / (high - low if high > low else 1)
    rgb = unit.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)
    return rgb.expand(*rgb.shape[:-1], 3).numpy()


def scatter(x: Batch, space: Space, beside: Batch | None = None) -> Image.Image:
    """Points of the plane, or a histogram for each of the first columns of a table.

    Args:
        beside: Real examples: they set the limits, and in histograms they are the grey area behind.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, real = x.flatten(1), None if beside is None else beside.flatten(1)
    figure = Figure(figsize=(3.2, 3.2), dpi=150, layout="constrained")
    if space.dim == 2:
        draw_plane(figure.subplots(), points, points if real is None else real)
    else:
        draw_histograms(figure, points, real)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(numpy.asarray(canvas.buffer_rgba())[..., :3].copy())


def draw_plane(axes: Axes, points: Tensor, limits: Tensor) -> None:
    low, high = limits.double().amin(0), limits.double().amax(0)
    (x, y), half = ((low + high) / 2).tolist(), 0.6 * max(float((high - low).max()), 1e-6)
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
    first, second = points.double().T.numpy()
    axes.scatter(first, second, s=4, linewidths=0, color=POINTS, alpha=0.7)


def draw_histograms(figure: Figure, points: Tensor, real: Tensor | None) -> None:
    shown = min(points.shape[1], HISTOGRAMS)
    side = math.ceil(math.sqrt(shown))
    for k in range(shown):
        axes = figure.add_subplot(math.ceil(shown / side), side, k + 1)
        column = points[:, k].double().numpy()
        limits = column if real is None else real[:, k].double().numpy()
        edges = numpy.histogram_bin_edges(limits, BINS)
        if real is not None:
            axes.hist(limits, edges.tolist(), density=True, color=BEHIND)
        inside = numpy.clip(column, edges[0], edges[-1])
        axes.hist(inside, edges.tolist(), density=True, histtype="step", color=POINTS)
        axes.set_title(f"x{k}", fontsize=7, pad=2)
        axes.set(xticks=[], yticks=[])
