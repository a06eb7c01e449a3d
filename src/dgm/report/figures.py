"""The plots of the report, as SVG with the colours and the font of the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from dgm.evaluation.cautions import selected_line
from dgm.report.lettering import lettering, short
from dgm.report.table import FEW, Cell, Row, Trained, most_samples

# colours of matplotlib and the CSS variables that replace them, so that a plot follows the light and dark theme
COLOURS = {"#010101": "ink", "#020202": "soft", "#030303": "line", "#040404": "first", "#050505": "second"}
INK, SOFT, LINE, FIRST, SECOND = COLOURS
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
LETTER = 5.2  # points, the width of a letter of a label
MANY, TAIL = 50, 0.97  # the quantile of many losses that sets the axis, since the first steps would dominate it


@dataclass(frozen=True)
class Goal:
    """One goal of the trilemma: a column and the direction of its axis, so that up and right are better."""

    key: str
    label: str
    log: bool
    inverted: bool = False


QUALITY = Goal("frechet", "quality → (Fréchet distance)", log=True, inverted=True)
UNBIASED = Goal("kernel", "quality → (kernel distance)", log=True, inverted=True)
COVERAGE = Goal("coverage", "coverage of the data →", log=False)
SPEED = Goal("per_second", "speed → (samples a second)", log=True)


def trilemma(table: Sequence[Row], real: Mapping[str, Cell]) -> list[tuple[str, str]]:
    """Quality, coverage and speed: a plot of each pair, with its content as text.

    A model that is up and right in all three plots would solve the generative learning trilemma.

    Source: Tackling the Generative Learning Trilemma with Denoising Diffusion GANs (Xiao et al., 2021),
    arXiv:2112.07804, figure 1. Differs from it: measured, and in three planes.

    Args:
        real: Reference values of held-out real examples. With few samples quality is the kernel distance, and values
            within the interval of real data are drawn at its end.
    """
    few_samples = most_samples(table) < FEW and "kernel" in real
    quality = UNBIASED if few_samples else QUALITY
    lowest = {"kernel": max(real["kernel"].high, 0.0)} if few_samples else {}  # smaller values cannot be distinguished
    plots = []
    for x, y in ((COVERAGE, quality), (SPEED, quality), (SPEED, COVERAGE)):
        points = {
            row.model: (row.cells[x.key].value, max(row.cells[y.key].value, lowest.get(y.key, -math.inf)))
            for row in table
            if x.key in row.cells and y.key in row.cells
        }
        if points:
            text = "; ".join(f"{name} {a:.3g}, {b:.3g}" for name, (a, b) in points.items())
            plots.append((plane(points, x, y), f"{y.label} against {x.label}: {text}"))
    return plots


def plane(points: dict[str, tuple[float, float]], x: Goal, y: Goal) -> str:
    def draw(axes: Axes) -> None:
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        x_values, y_values = zip(*points.values(), strict=True)
        axes.scatter(x_values, y_values, s=34, color=FIRST, linewidths=0)
        axes.set(xlabel=x.label, ylabel=y.label)
        axes.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
        axes.margins(0.12)
        for axis, goal in ((axes.xaxis, x), (axes.yaxis, y)):
            lay_out(axis, goal)
        name_points(axes, points)

    return svg(f"{x.key}-{y.key}", (4.2, 3.8), draw)


def lay_out(axis: Axis, goal: Goal) -> None:
    if goal.log:
        low, high = sorted(axis.get_data_interval())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.set_inverted(goal.inverted)


def name_points(axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Places each label next to its point where it covers neither a point nor a label."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # computes the positions of the points
    scale = 72 / axes.figure.dpi
    width, height = (side * scale for side in axes.bbox.size)
    places = {name: axes.transData.transform(point) * scale - axes.bbox.p0 * scale for name, point in points.items()}
    taken = [(px - 3, py - 3, px + 3, py + 3) for px, py in places.values()]
    for name, (px, py) in sorted(places.items(), key=lambda item: -item[1][1]):
        long = LETTER * len(short(name))
        tries = [(dx, dy) for dy in (-3, 5, -11, 13, -19, 21, -27, 29) for dx in (6, -6 - long)]
        boxes = [(px + dx, py + dy, px + dx + long, py + dy + 8) for dx, dy in tries]
        inside = [box for box in boxes if box[0] > 0 and box[2] < width and box[1] > 0 and box[3] < height] or boxes
        box = min(inside, key=lambda box: sum(overlap(box, other) for other in taken))
        taken.append(box)
        offset = (box[0] - px, box[1] - py)
        text = axes.annotate(
            short(name), points[name], xytext=offset, textcoords="offset points", fontsize=8, color=INK
        )
        text.set_in_layout(False)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area of the intersection of two boxes (left, bottom, right, top).

    Example:
        >>> overlap((0, 0, 2, 2), (1, 1, 3, 4)), overlap((0, 0, 1, 1), (1, 0, 2, 1))
        (1, 0)
    """
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def curves(table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Plots of the losses against seconds, (model, plot)."""
    for row in table:
        if row.runs[0].metrics:
            yield row.model, svg(f"curve-{row.model}", (3.4, 2.1), partial(draw_losses, row.runs[0]))


def draw_losses(run: Trained, axes: Axes) -> None:
    seconds = [line["seconds"] for line in run.metrics]
    for player, colour in zip(run.metrics[0]["losses"], (FIRST, SECOND, SOFT), strict=False):
        values = [line["losses"].get(player) for line in run.metrics]
        axes.plot(seconds, values, linewidth=1, color=colour, label="training" if player == "model" else player)
    held_out = {line["seconds"]: line["validation"] for line in run.metrics if "validation" in line}
    if held_out:
        points = (list(held_out), list(held_out.values()))
        axes.plot(*points, "o-", markersize=2.5, linewidth=1, color=SECOND, label="validation")
    selected = selected_line(run.metrics, run.config)
    if selected and "validation" in selected:
        point = ([selected["seconds"]], [selected["validation"]])
        axes.plot(*point, "o", label="_selected", markersize=8, markerfacecolor="none", markeredgecolor=INK)
    values = sorted([*held_out.values(), *(value for line in run.metrics for value in line["losses"].values())])
    low, high = values[0], values[int(TAIL * (len(values) - 1)) if len(values) > MANY else -1]
    if high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_xlabel("seconds", fontsize=8)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderaxespad=0,
            ncols=3,
            fontsize=7.5,
            frameon=False,
            labelcolor=INK,
        )


def symptoms(table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Plots of the symptoms of a training against seconds, (model, plot)."""
    for row in table:
        if any(line.get("symptoms") for line in row.runs[0].metrics):
            yield row.model, svg(f"symptoms-{row.model}", (3.4, 2.4), partial(draw_symptoms, row.runs[0]))


def draw_symptoms(run: Trained, axes: Axes) -> None:
    lines = [line for line in run.metrics if line.get("symptoms")]
    looks = ((colour, dash) for dash in ("-", "--", ":") for colour in (FIRST, SECOND, SOFT))
    for name, (colour, dash) in zip(lines[0]["symptoms"], looks, strict=False):
        points = [(line["seconds"], line["symptoms"].get(name)) for line in lines]
        axes.plot(*zip(*points, strict=True), linestyle=dash, linewidth=1, color=colour, label=name)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # a logarithmic scale's own are formulas
    axes.set_xlabel("seconds", fontsize=8)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=7, frameon=False, labelcolor=INK)


def svg(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """One plot as SVG. ``name`` makes its ids unique in the page."""
    with lettering({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(SOFT)
        axes.tick_params(colors=SOFT, labelcolor=SOFT, labelsize=8, which="both")
        axes.xaxis.label.set_color(SOFT)
        axes.yaxis.label.set_color(SOFT)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return in_page(name, out.getvalue())


def in_page(name: str, document: str) -> str:
    """The <svg> element, with CSS variables as colours and unique ids."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{re.sub('[^a-z0-9_-]', '-', name.lower())}-", text)
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
