"""Pictures of examples: grids of images, plots of points and tables, strips and animations of a sampler."""

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

from dgm.data.columns import Column
from dgm.errors import Unsupported
from dgm.protocols import Batch
from dgm.report.lettering import lettering, short
from dgm.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISIBLE = 40  # pixels that the longer side of a small image is enlarged to
SEPARATOR = 112
HISTOGRAMS = 60  # columns of a table that are shown
BINS, WHOLE = 24, 30  # bins of a histogram; most integers that have a bin each
ELONGATED = 5  # ratio of the sides of a plane, from which on its axes have different scales
FRAME_MS, LAST_MS = 80, 2000  # duration of a frame of an animation, and of the last one
POINTS, BACKGROUND = "#3057a8", "#c9c9c9"


def grid(x: Batch, space: Space, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Images (B, C, H, W) in rows, separated by grey lines as wide as one of their pixels; none around a single image.

    Args:
        columns: Images in a row; by default a square grid.
        scale: Factor of enlargement; by default small images are enlarged to a visible size.

    Raises:
        Unsupported: For examples other than grey or colour images.

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


def view(x: Batch, space: Space, real_x: Batch | None = None) -> Image.Image:
    """A grid of images, or a plot by `scatter`."""
    return grid(x, space) if len(space.shape) == 3 else scatter(x, space, real_x)


def strip(states: Sequence[Batch], space: Space) -> Image.Image:
    """The states of a sampler from left to right: a row for each image, or one plot of points for each state."""
    if len(space.shape) == 3:
        return grid(torch.stack(tuple(states), 1).flatten(0, 1), space, columns=len(states))
    plots = [scatter(x, space, states[-1]) for x in states]
    canvas = Image.new("RGB", (sum(plot.width for plot in plots), plots[0].height), "white")
    for k, plot in enumerate(plots):
        canvas.paste(plot, (k * plot.width, 0))
    return canvas


def save_animation(pictures: Sequence[Image.Image], out: Path) -> None:
    """Writes an animated GIF, which repeats after a pause at the last picture."""
    first, *others = pictures
    durations = [FRAME_MS] * len(others) + [LAST_MS]
    first.save(out, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


def lines(texts: Sequence[str], columns: int = 40) -> Image.Image:
    """Texts in lines of at most ``columns`` characters, separated by grey lines."""
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
    """Images as uint8 (B, H, W, 3). Unbounded values are scaled by the minimum and maximum of the batch."""
    low, high = (0, space.values - 1) if space.values else space.bounds or (float(x.min()), float(x.max()))
    unit = (x.double() - low) / (high - low if high > low else 1)
    rgb = unit.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)
    return rgb.expand(*rgb.shape[:-1], 3).numpy()


def scatter(x: Batch, space: Space, real_x: Batch | None = None, columns: Sequence[Column] = ()) -> Image.Image:
    """A scatter plot of points in the plane, or a histogram of each column of a table, in the units of the data.

    Args:
        real_x: Real examples, which set the limits and are drawn in grey in the background.
        columns: The columns of a table; by default their names are x0, x1, ...
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, real = x.flatten(1).double(), None if real_x is None else real_x.flatten(1).double()
    names = [short(column.name) for column in columns] or [f"x{k}" for k in range(points.shape[1])]
    with lettering({"font.size": 7}):
        figure = Figure(figsize=(3.2, 3.2), dpi=150)
        if space.dim == 2:
            figure.set_layout_engine("constrained")
            draw_plane(figure.subplots(), points, real, names)
        else:
            draw_histograms(figure, points, real, names)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(numpy.asarray(canvas.buffer_rgba())[..., :3].copy())


def draw_plane(axes: Axes, points: Tensor, real: Tensor | None, names: Sequence[str]) -> None:
    limits = points if real is None else real
    low, high = limits.amin(0), limits.amax(0)
    middle, half = (low + high) / 2, 0.6 * (high - low).clamp_min(1e-6)
    if not half.max() > ELONGATED * half.min():
        half = half.max().expand(2)
        axes.set(aspect="equal")
    (left, bottom), (right, top) = (middle - half).tolist(), (middle + half).tolist()
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=names[0], ylabel=names[1])
    for examples, colour in ((real, BACKGROUND), (points, POINTS)):
        if examples is not None:
            first, second = examples.T.numpy()
            axes.scatter(first, second, s=4, linewidths=0, color=colour, alpha=0.7)


def draw_histograms(figure: Figure, points: Tensor, real: Tensor | None, names: Sequence[str]) -> None:
    """Histograms in rows of four; values outside the limits are counted in the first and the last bin."""
    from matplotlib.ticker import MaxNLocator

    count = min(points.shape[1], HISTOGRAMS)
    per_row = min(count, 4)
    row_count = math.ceil(count / per_row)
    width, height = 1.6 * per_row, 1.35 * row_count + 0.3
    figure.set_size_inches(width, height)
    # a fixed layout: the constrained layout of sixty axes takes seconds
    room = {"left": 0.4 / width, "right": 1 - 0.1 / width, "bottom": 0.5 / height, "top": 1 - 0.3 / height}
    figure.subplots_adjust(**room, wspace=0.4, hspace=0.6)
    for k, axes in enumerate(figure.subplots(row_count, per_row, squeeze=False).flat):
        if k >= count:
            axes.set_axis_off()
            continue
        column = points[:, k].numpy()
        limits = column if real is None else real[:, k].numpy()
        edges = bin_edges(limits)
        if real is not None:
            axes.hist(limits, edges.tolist(), weights=shares(limits), color=BACKGROUND, label="data")
        inside = numpy.clip(column, edges[0], edges[-1])
        drawn = {"histtype": "step", "color": POINTS, "label": "samples"}
        axes.hist(inside, edges.tolist(), weights=shares(inside), **drawn)
        axes.set_title(names[k], fontsize=7, pad=2)
        axes.tick_params(labelsize=6)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    left_out = points.shape[1] - count
    if left_out:
        figure.suptitle(f"the first {count} of {points.shape[1]} columns", fontsize=7)
    if real is not None:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="lower right", ncols=2, frameon=False)


def bin_edges(x: numpy.ndarray) -> numpy.ndarray:
    """One bin for each integer where there are few, otherwise `BINS` bins of equal width."""
    low, high = x.min(), x.max()
    if high - low < WHOLE and (x == x.round()).all():
        return numpy.arange(low - 0.5, high + 1)
    return numpy.histogram_bin_edges(x, BINS)


def shares(x: numpy.ndarray) -> numpy.ndarray:
    """Weights that make the bars relative frequencies."""
    return numpy.full(len(x), 1 / len(x))
