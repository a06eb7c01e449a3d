"""A picture of points in several planes, coloured by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
from PIL import Image
from torch import Tensor

from dgm.report.lettering import lettering, short

MOST_LABELS = 20  # with a colour of their own and a legend; more have a colour by their number
NAME = 12  # letters of a label in the legend


def embedding(planes: Mapping[str, Tensor], y: Tensor | None, labels: Sequence[str]) -> Image.Image:
    """One panel for each plane, (N, 2) points, with the labels y (N,) as colours."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    few = y is not None and len(labels) <= MOST_LABELS
    colours = matplotlib.colormaps["tab10" if len(labels) <= 10 else "tab20" if few else "viridis"]
    with lettering({"font.size": 8}):
        figure = Figure(figsize=(3.4 * len(planes) + (0.9 if few else 0), 3.4), dpi=150, layout="constrained")
        for axes, (title, points) in zip(
            figure.subplots(1, len(planes), squeeze=False)[0], planes.items(), strict=True
        ):
            first, second = points.T.numpy()
            shades = None if y is None else colours(y.numpy() if few else y.numpy() / max(1, len(labels) - 1))
            axes.scatter(first, second, s=5, linewidths=0, c=shades)
            axes.set(title=title, xticks=[], yticks=[])
        if few:
            marks = [axes.scatter([], [], s=14, color=colours(k)) for k in range(len(labels))]
            figure.legend(marks, [short(name, NAME) for name in labels], loc="outside right center", frameon=False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(numpy.asarray(canvas.buffer_rgba())[..., :3].copy())
