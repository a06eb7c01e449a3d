"""Pictures of examples: grids of images, plots of points and tables, strips and animations of a sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy
import torch
from PIL import Image
from torch import Tensor

from dgm.data.columns import Column, of_run
from dgm.errors import Unsupported
from dgm.protocols import Batch
from dgm.report.lettering import lettering, short
from dgm.report.table_figure import BACKGROUND, POINTS, draw_columns
from dgm.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VISIBLE = 40  # pixels that the longer side of a small image is enlarged to
SEPARATOR = 112
ELONGATED = 5  # ratio of the sides of a plane, from which on its axes have different scales
FRAME_MS, LAST_MS = 80, 2000  # duration of a frame of an animation, and of the last one


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
    """A grid of images, a row of frames for each clip, or a plot by `scatter`."""
    if len(space.shape) == 4:
        return strip(list(x.unbind(1)), replace(space, shape=space.shape[1:]))
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
    """A scatter plot of points in the plane, or a picture of each column of a table, in the units of the data.

    Args:
        real_x: Real examples, which set the limits and are drawn in grey in the background.
        columns: The columns of a table; by default their names are x0, x1, ...
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, real = x.flatten(1).double(), None if real_x is None else real_x.flatten(1).double()
    columns = columns or of_run({}, space)
    with lettering({"font.size": 7}):
        figure = Figure(figsize=(3.2, 3.2), dpi=150)
        if space.dim == 2 and space.kind != "record":
            figure.set_layout_engine("constrained")
            draw_plane(figure.subplots(), points, real, [short(column.name) for column in columns])
        else:
            draw_columns(figure, points, real, columns)
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
