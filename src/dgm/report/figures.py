"""The report's plots, as SVG that takes the page's own colours."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgm.report.table import Row, mean_of

INK = "#64748b"  # reads on a light and on a dark page
COLOURS = (
    "#2563eb",
    "#ea580c",
    "#16a34a",
    "#9333ea",
    "#dc2626",
    "#0891b2",
    "#ca8a04",
    "#db2777",
    "#4d7c0f",
    "#7c3aed",
    "#0f766e",
)


def svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def triangle(table: list[Row]) -> str:
    """Quality, coverage and speed, which no family has all of: two panels that share the quality axis."""
    points = [
        (row.model, row.metrics["frechet"].value, row.metrics["coverage"].value, speed)
        for row in table
        if "frechet" in row.metrics and (speed := mean_of(row.runs, "samples", "per_second"))
    ]
    figure = Figure(figsize=(10, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    for k, (name, distance, coverage, speed) in enumerate(points):
        colour = COLOURS[k % len(COLOURS)]
        for axes, x in ((left, coverage), (right, speed)):
            axes.scatter(x, distance, s=60, color=colour, zorder=3)
            axes.annotate(name, (x, distance), xytext=(6, 4), textcoords="offset points", fontsize=8, color=colour)
    left.set(xlabel="coverage → more of the data", ylabel="Fréchet distance → worse", yscale="log")
    right.set(xlabel="samples a second → faster", xscale="log")
    for axes in (left, right):
        axes.grid(color=INK, alpha=0.2)
        plain(axes)
    left.invert_yaxis()
    return svg(figure)


def curves(table: list[Row]) -> str:
    """A small plot a model: its losses, each in its own unit, against the seconds of training."""
    columns = 4
    lines = -(-len(table) // columns)
    figure = Figure(figsize=(11, 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, row in zip(panels, table, strict=False):
        metrics = row.runs[0].metrics
        seconds = [line["seconds"] for line in metrics]
        for k, player in enumerate(metrics[0]["losses"] if metrics else ()):
            axes.plot(seconds, [line["losses"].get(player) for line in metrics], lw=1, color=COLOURS[k], label=player)
        held = [(line["seconds"], line["validation"]) for line in metrics if "validation" in line]
        if held:
            axes.plot(*zip(*held, strict=True), "o-", ms=2.5, lw=1, color=COLOURS[1], label="validation")
        values = sorted(
            value
            for line in metrics
            for value in [*line["losses"].values(), line.get("validation")]
            if value is not None
        )
        if values:  # the first steps would flatten the rest
            low, high = values[0], values[int(0.97 * (len(values) - 1))]
            margin = 0.05 * (high - low) + 1e-9
            axes.set_ylim(low - margin, high + margin)
        axes.set_title(row.model, fontsize=9, color=INK)
        if len(axes.get_lines()) > 1:
            axes.legend(fontsize=6, frameon=False, labelcolor=INK)
        plain(axes)
    for axes in panels[len(table) :]:
        axes.set_visible(False)
    return svg(figure)
