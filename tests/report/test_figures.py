"""Plots say what the numbers say: up and to the right is better, and names can be told apart."""

import html
import itertools
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from dgm.report import figures
from dgm.report.lettering import LONGEST, short
from dgm.report.table import Cell, rows

from .conftest import evaluation, metric, trained


def places(svg: str) -> list[tuple[float, float]]:
    """Where the points of a scatter plot are in the picture, in their order; y runs down."""
    points = svg[svg.index("PathCollection") :]
    return [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', points)]


@pytest.fixture
def table():
    """Each model is better than the one before in all three."""
    numbers = {"made": (300.0, 0.1, 10.0), "vae": (30.0, 0.5, 100.0), "gan": (3.0, 0.9, 5000.0)}
    runs = [
        trained(name, evaluation(metrics=[metric("frechet", f, 0), metric("coverage", c, 0)], per_second=s))
        for name, (f, c, s) in numbers.items()
    ]
    return rows(runs, "classifier")


def test_up_and_to_the_right_is_better_in_every_plane(table):
    planes = figures.trilemma(table, {})
    assert len(planes) == 3
    for svg, _ in planes:
        found = places(svg)[:3]
        assert [x for x, _ in found] == sorted(x for x, _ in found)
        assert [y for _, y in found] == sorted((y for _, y in found), reverse=True)


def test_the_words_have_the_numbers(table):
    (_, words), *_ = figures.trilemma(table, {})
    assert "vae 0.5, 30" in words


def test_a_plane_without_points_is_left_out():
    assert figures.trilemma(rows([trained("vae", evaluation())], "classifier"), {}) == []


def test_names_of_near_points_do_not_cover_each_other():
    points = {f"model-{k}": (1 + 0.01 * k, 1 + 0.01 * (k % 2)) for k in range(6)} | {"far": (5.0, 5.0)}
    svg = figures.plane(points, figures.COVERAGE, figures.SPEED)
    names = re.findall(r'<text style="font-size: 8px[^"]*" transform="translate\(([\d.]+) ([\d.]+)\)">(\w+-\d)<', svg)
    names = names or re.findall(r'<text style="font-size: 8px[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(\w+-\d)<', svg)
    assert len(names) == 6
    boxes = [(float(x), float(y), float(x) + 5 * len(name), float(y) + 7) for x, y, name in names]
    assert all(figures.overlap(a, b) == 0 for a, b in itertools.combinations(boxes, 2))


def test_a_plot_takes_the_colours_of_the_page(table):
    (svg, _), *_ = figures.trilemma(table, {})
    assert "var(--first)" in svg
    assert "var(--ink)" in svg
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", svg)


def test_the_same_numbers_give_the_same_bytes(table):
    assert figures.trilemma(table, {}) == figures.trilemma(table, {})
    assert dict(figures.curves(table)) == dict(figures.curves(table))


def test_every_player_and_the_validation_have_a_line():
    run = trained("gan", evaluation())
    lines = [{"seconds": float(k), "losses": {"discriminator": 1.0, "generator": 2.0 + k}} for k in range(5)]
    run.metrics[:] = [*lines, lines[-1] | {"validation": 3.0}]
    ((_, svg),) = figures.curves(rows([run], "classifier"))
    assert {"discriminator", "generator", "validation"} <= set(re.findall(r">(\w+)</text>", svg))


def test_symptoms_have_a_plot_of_their_own():
    """Kills: a line without the measurements of lines that have none, an empty plot of a run without symptoms."""
    run = trained("gan", evaluation())
    assert not list(figures.symptoms(rows([run], "classifier")))
    lines = [{"seconds": float(k), "losses": {"model": 1.0}, "symptoms": {"saturation": 0.1 * k}} for k in range(3)]
    run.metrics[:] = [lines[0], {"seconds": 0.5, "losses": {"model": 1.0}}, *lines[1:]]
    axes = Figure().subplots()
    figures.draw_symptoms(run, axes)
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]]
    ((model, svg),) = figures.symptoms(rows([run], "classifier"))
    assert "$" not in svg  # a number on a logarithmic axis as a formula
    assert (model, "saturation" in svg) == ("gan", True)


def limits(losses: list[float]) -> tuple[float, float]:
    run = trained("made", evaluation())
    run.metrics[:] = [{"seconds": float(k), "losses": {"model": loss}} for k, loss in enumerate(losses)]
    axes = Figure().subplots()
    figures.draw_losses(run, axes)
    return axes.get_ylim()


def test_the_first_losses_do_not_flatten_the_rest():
    """Of many, the axis ends at what 97 of 100 are below; of few all are seen; a twentieth is left above and below."""
    many = [1e6, 1e5, 1e4, *map(float, range(98, 0, -1))]
    low, high = 1.0, 98.0  # the 98th of 101 in order
    assert limits(many) == pytest.approx((low - 0.05 * (high - low), high + 0.05 * (high - low)))
    few = [200.0, 100.0, 50.0]
    assert limits(few) == pytest.approx((50 - 7.5, 200 + 7.5))


def test_of_few_samples_quality_is_the_kernel_distance_down_to_the_noise_of_real_data():
    """Log axes have no place for what is below 0, and nothing below the noise can be told apart."""
    numbers = {"made": 30.0, "vae": 0.002, "gan": -0.004}
    runs = [
        trained(name, evaluation(metrics=[metric("kernel", k, 0), metric("coverage", 0.5, 0), metric("frechet", 9, 0)]))
        for name, k in numbers.items()
    ]
    table = rows(runs, "classifier")
    (_, words), *_ = figures.trilemma(table, {"kernel": Cell(0.0, -0.01, 0.01)})
    assert words.startswith("quality → (kernel distance")
    assert "made 0.5, 30; vae 0.5, 0.01; gan 0.5, 0.01" in words
    (_, words), *_ = figures.trilemma(table, {})
    assert "vae 0.5, 9" in words


def test_the_kept_weights_have_a_ring():
    run = trained("vae", evaluation())
    assert [line["validation"] for line in run.metrics if "validation" in line] == [81.0]
    ((_, svg),) = figures.curves(rows([run], "classifier"))
    others = replace(run, config=run.config | {"training": run.config["training"] | {"select": "last"}})
    others.metrics.append({"step": 1001, "seconds": 26.0, "losses": {"model": 80.0}})
    ((_, without),) = figures.curves(rows([others], "classifier"))
    ring = re.compile(r'<use [^>]*style="fill-opacity: 0|fill: none; stroke: var\(--ink\)')
    assert ring.search(svg)
    assert not ring.search(without)


@pytest.mark.parametrize("name", ["$\\frac$", "a_b^c", "100 %", "\u5b57", "x" * 300, "two\nlines", "<b>&"])
def test_a_name_is_drawn_as_it_is(name):
    """No formula, no warning of a letter that the font lacks, no tag, and not longer than a name should be."""
    svg = figures.plane({name: (1.0, 1.0)}, figures.COVERAGE, figures.QUALITY)
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    assert html.escape(short(name), quote=False) in texts
    assert len(short(name)) <= LONGEST
