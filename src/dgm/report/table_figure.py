"""The columns of a table in one figure: a histogram of each, bars of categories, the data behind the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy
from torch import Tensor

from dgm.data.columns import Column
from dgm.report.lettering import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HISTOGRAMS = 60  # columns of a table that are shown
BINS, WHOLE = 24, 30  # bins of a histogram; most integers that have a bin each
BARS, LETTERS = 8, 9  # categories that have a bar of their own, and letters of their names
POINTS, BACKGROUND = "#3057a8", "#c9c9c9"
MISSING, OTHERS = "(missing)", "(others)"


def draw_columns(figure: Figure, x: Tensor, real: Tensor | None, columns: Sequence[Column]) -> None:
    """Columns in rows of four.

    Args:
        x: (N, D) samples, NaN where a value is missing.
        real: (M, D) real examples, which set the limits and are drawn in the background; values outside the limits are
            counted in the first and the last bin.
    """
    count = min(x.shape[1], HISTOGRAMS)
    across = min(count, 4)
    down = math.ceil(count / across)
    width, height = 1.6 * across, 1.35 * down + 0.3
    named = any(column.values for column in columns)  # names of categories are written vertically
    height += 0.45 * down * named
    figure.set_size_inches(width, height)
    # a fixed layout: the constrained layout of sixty axes takes seconds
    bottom = 0.5 + 0.45 * named
    room = {"left": 0.4 / width, "right": 1 - 0.1 / width, "bottom": bottom / height, "top": 1 - 0.3 / height}
    figure.subplots_adjust(**room, wspace=0.4, hspace=1.0 if named else 0.6)
    for k, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if k >= count:
            axes.set_axis_off()
            continue
        draw_column(axes, x[:, k].numpy(), None if real is None else real[:, k].numpy(), columns[k])
    left_out = x.shape[1] - count
    if left_out:
        figure.suptitle(f"the first {count} of {x.shape[1]} columns", fontsize=7)
    if real is not None:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="lower right", ncols=2, frameon=False)


def draw_column(axes: Axes, x: numpy.ndarray, real: numpy.ndarray | None, column: Column) -> None:
    from matplotlib.ticker import MaxNLocator

    if column.type == "integer":
        x, real = x + column.offset, None if real is None else real + column.offset
    if column.values:
        draw_bars(axes, x, real, column)
        title = short(column.name)
    else:
        draw_histogram(axes, x, real, column)
        title = "\n".join(filter(None, (short(column.name), gaps(x, real))))
    axes.set_title(title, fontsize=7, pad=2)
    axes.tick_params(labelsize=6)
    axes.yaxis.set_major_locator(MaxNLocator(2))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def gaps(x: numpy.ndarray, real: numpy.ndarray | None) -> str:
    """The share of missing values in words; empty if no value is missing.

    Example:
        >>> gaps(numpy.array([numpy.nan, 1.0]), numpy.zeros(4))
        'missing 50%, data 0%'
    """
    of_samples, of_data = (0.0 if part is None else float(numpy.isnan(part).mean()) for part in (x, real))
    if not of_samples and not of_data:
        return ""
    return f"missing {of_samples:.0%}" + ("" if real is None else f", data {of_data:.0%}")


def draw_histogram(axes: Axes, x: numpy.ndarray, real: numpy.ndarray | None, column: Column) -> None:
    """Shares of the known values."""
    from matplotlib.ticker import MaxNLocator

    limits = x if real is None else real
    known = limits[~numpy.isnan(limits)]
    edges = bin_edges(known if len(known) else numpy.zeros(1))
    if real is not None:
        axes.hist(known, edges.tolist(), weights=shares(known), color=BACKGROUND, label="data")
    inside = numpy.clip(x[~numpy.isnan(x)], edges[0], edges[-1])
    drawn: dict[str, Any] = {"histtype": "step", "color": POINTS, "label": "samples"}
    axes.hist(inside, edges.tolist(), weights=shares(inside), **drawn)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=column.type != "real"))
    if column.type == "date":
        low, high = (column.value_of(float(numpy.round(edge))) for edge in (edges[0], edges[-1]))
        form = "%Y" if (high - low).days > 5 * 365 else "%Y-%m" if (high - low).days > 90 else "%m-%d"
        axes.xaxis.set_major_formatter(lambda value, _: column.value_of(value).strftime(form))
    if column.type == "time":
        axes.xaxis.set_major_formatter(lambda value, _: column.value_of(value).strftime("%H:%M"))


def draw_bars(axes: Axes, x: numpy.ndarray, real: numpy.ndarray | None, column: Column) -> None:
    """A bar for each of the most frequent categories of the data, one for all others and one for missing values."""
    of_samples, of_data = counts(x, column), None if real is None else counts(real, column)
    chosen = numpy.argsort(-(of_samples if of_data is None else of_data)[:-1], kind="stable")[:BARS]
    names = [short(column.values[k], LETTERS) for k in chosen]
    groups: list[Any] = [[k] for k in chosen]
    if len(column.values) > BARS:
        others = numpy.setdiff1d(numpy.arange(len(column.values)), chosen)
        names, groups = [*names, OTHERS], [*groups, others]
    if of_samples[-1] or (of_data is not None and of_data[-1]):
        names, groups = [*names, MISSING], [*groups, [len(column.values)]]
    places = numpy.arange(len(names))
    if of_data is not None:
        axes.bar(places, [of_data[group].sum() for group in groups], 0.8, color=BACKGROUND, label="data")
    drawn: dict[str, Any] = {"fill": False, "edgecolor": POINTS, "label": "samples"}
    axes.bar(places, [of_samples[group].sum() for group in groups], 0.8, **drawn)
    axes.set_xticks(places, names, rotation=90)


def counts(x: numpy.ndarray, column: Column) -> numpy.ndarray:
    """The share of each category and, at the end, of missing values."""
    numbers = numpy.where(numpy.isnan(x), len(column.values), numpy.nan_to_num(x)).astype(int)
    found: numpy.ndarray = numpy.bincount(numbers, minlength=len(column.values) + 1) / max(1, len(x))
    return found


def bin_edges(x: numpy.ndarray) -> numpy.ndarray:
    """One bin for each integer where there are few, otherwise `BINS` bins of equal width."""
    low, high = x.min(), x.max()
    if high - low < WHOLE and (x == x.round()).all():
        return numpy.arange(low - 0.5, high + 1)
    return numpy.histogram_bin_edges(x, BINS)


def shares(x: numpy.ndarray) -> numpy.ndarray:
    """Weights that make the bars relative frequencies."""
    return numpy.full(len(x), 1 / max(1, len(x)))
