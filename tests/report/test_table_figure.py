"""The picture of a record: a kind of axes for each kind of column, with the shares of the samples and of the data."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from matplotlib.figure import Figure

from dgm.data.columns import Column
from dgm.report.table_figure import BARS, draw_columns

NAN = math.nan
COLUMNS = [
    Column(name="job", type="category", values=tuple(f"job {k}" for k in range(BARS + 2))),
    Column(name="married", type="boolean", values=("no", "yes")),
    Column(name="joined", type="date", offset=18_262),  # 2020-01-01
    Column(name="age", type="integer", offset=18),
    Column(name="pay [EUR]"),
]


def drawn(x: torch.Tensor, real: torch.Tensor | None = None) -> list:
    figure = Figure()
    draw_columns(figure, x, real, COLUMNS)
    figure.canvas.draw()
    return [axes for axes in figure.axes if axes.axison]


def rows() -> torch.Tensor:
    generator = numpy.random.default_rng(0)
    job = numpy.r_[numpy.repeat(numpy.arange(BARS + 2), range(BARS + 2, 0, -1)), [NAN] * 5]
    n = len(job)
    days, pay = generator.integers(0, 3000, n).astype(float), generator.normal(100, 5, n)
    pay[:6] = NAN
    return torch.from_numpy(numpy.stack([job, numpy.arange(n) % 2, days, generator.integers(0, 60, n), pay], 1))


def test_categories_are_bars_with_their_names_the_others_and_what_is_missing() -> None:
    x = rows()
    job = drawn(x, x)[0]
    names = [label.get_text() for label in job.get_xticklabels()]
    assert names == [*(f"job {k}" for k in range(BARS)), "(others)", "(missing)"]
    heights = [bar.get_height() for bar in job.patches]
    n = len(x)
    expected = [*((BARS + 2 - k) / n for k in range(BARS)), 3 / n, 5 / n]
    assert heights == pytest.approx(expected * 2), "of the data, then of the samples"
    assert [label.get_text() for label in drawn(x)[1].get_xticklabels()] == ["no", "yes"]


def test_the_axis_of_a_time_is_in_hours_and_minutes() -> None:
    """Kills: ticks in units since the first time."""
    figure = Figure()
    x = torch.arange(0.0, 61, 10)[:, None].double()
    draw_columns(figure, x, x, [Column(name="start", type="time", offset=500, unit=60_000)])
    figure.canvas.draw()
    axes = figure.axes[0]
    texts = {tick: label.get_text() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert any(0 < tick < 60 for tick in texts)
    assert texts == {tick: f"{(500 + tick) // 60:02.0f}:{(500 + tick) % 60:02.0f}" for tick in texts}


def test_axes_are_in_the_values_of_the_table() -> None:
    x = rows()
    _, _, joined, age, pay = drawn(x, x)
    assert joined.get_title() == "joined"
    assert {label.get_text()[:3] for label in joined.get_xticklabels()} <= {"201", "202", "203"}
    assert age.patches[0].get_x() == pytest.approx(18 + float(x[:, 3].min()), abs=0.5)
    assert pay.get_title() == f"pay [EUR]\nmissing {6 / len(x):.0%}, data {6 / len(x):.0%}"
    assert sum(bar.get_height() for bar in pay.patches[:-1]) == pytest.approx(1), "shares of the known values"


def test_a_column_without_a_value_is_drawn() -> None:
    drawn(torch.full((10, 5), NAN, dtype=torch.float64))
    drawn(torch.full((10, 5), NAN, dtype=torch.float64), rows())
