"""Pictures show every pixel of every example, in its place and at its shade."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dgm import Space
from dgm.data.columns import Column
from dgm.errors import Unsupported
from dgm.report.pictures import SEPARATOR, grid, save_animation, scatter, strip


def test_each_image_is_in_its_place():
    x = torch.randint(0, 17, (5, 1, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = numpy.asarray(grid(x, Space.levels((1, 4, 6), 17), columns=3, scale=2))
    for k in range(5):
        row, column = divmod(k, 3)
        block = picture[10 * row : 10 * row + 8, 14 * column : 14 * column + 12]
        for shift in range(2):  # every pixel is a square of 2 × 2 equal ones
            assert (block[shift::2, shift::2, 0] == numpy.round(x[k, 0].numpy() * (255 / 16))).all()


def test_lines_part_the_images():
    picture = numpy.asarray(grid(torch.ones(4, 1, 3, 3, dtype=torch.uint8), Space.binary((1, 3, 3)), scale=1))
    assert picture.shape == (7, 7, 3)
    assert (picture[3] == SEPARATOR).all()
    assert (picture[:, 3] == SEPARATOR).all()
    assert (picture != SEPARATOR).sum() == 4 * 9 * 3


def test_a_single_image_is_itself():
    x = torch.randint(0, 256, (1, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = numpy.asarray(grid(x, Space.levels((3, 5, 7), 256), columns=1, scale=1))
    assert (picture == x[0].permute(1, 2, 0).numpy()).all()


def test_bounded_values_are_shown_from_black_to_white():
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0]).view(1, 1, 2, 2)
    picture = numpy.asarray(grid(x, Space.continuous((1, 2, 2), low=-1, high=3), scale=1))
    assert picture[..., 0].tolist() == [[0, 64], [128, 255]]


def test_small_images_are_enlarged_and_large_ones_are_not():
    small, large = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    assert grid(small, Space.levels((1, 8, 8), 17)).size == (40, 40)
    assert grid(large, Space.levels((1, 64, 64), 256)).size == (64, 64)


def test_a_table_has_no_grid():
    with pytest.raises(Unsupported, match=r"continuous 6; write them to a \.csv"):
        grid(torch.zeros(4, 6), Space.continuous((6,)))


def test_points_are_drawn_within_the_limits_of_the_real_ones():
    """The same points are at the same place beside one real set, whatever else was drawn."""
    space, real = Space.continuous((2,)), torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    near = torch.tensor([[0.0, 0.0]])
    far = torch.tensor([[0.0, 0.0], [1e6, 1e6]])
    assert (numpy.asarray(scatter(near, space, real)) == numpy.asarray(scatter(far, space, real))).all()
    assert (numpy.asarray(scatter(near, space)) != numpy.asarray(scatter(far, space))).any()


def test_real_columns_lie_behind_those_of_samples():
    space, x = Space.continuous((3,)), torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    alone, beside = numpy.asarray(scatter(x, space)), numpy.asarray(scatter(x, space, x))
    grey = lambda picture: (picture == (0xC9, 0xC9, 0xC9)).all(-1).mean()  # noqa: E731
    assert grey(alone) < 0.01 < 0.05 < grey(beside)


def test_a_column_that_is_constant_is_drawn():
    one, two = (scatter(torch.zeros(10, d), Space.continuous((d,)), torch.zeros(10, d)) for d in (3, 6))
    assert two.height > one.height


def drawn_axes(x, space, beside=None, columns=()):
    """The axes of a picture, once it is drawn."""
    from matplotlib.figure import Figure

    made, subplots = [], Figure.subplots
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "subplots", lambda *given, **o: made.append(subplots(*given, **o)) or made[-1])
        scatter(x, space, beside, columns)
    return list(numpy.asarray(made[0]).flat)


def test_every_column_has_its_name_its_units_and_the_data_behind():
    """The shares of both sets add up to 1 over the same bins, and the axis is in the column's own numbers."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(400, 11, generator=generator) * torch.logspace(-3, 4, 11)
    names = [f"column {k}" for k in range(11)]
    axes = [
        a
        for a in drawn_axes(real * 1.2, Space.continuous((11,)), real, [Column(name=name) for name in names])
        if a.axison
    ]
    assert [a.get_title() for a in axes] == names
    for k, a in enumerate(axes):
        behind, line = a.patches[:-1], a.patches[-1]
        assert sum(bar.get_height() for bar in behind) == pytest.approx(1)
        assert behind[0].get_x() == pytest.approx(float(real[:, k].min()), rel=1e-4)
        assert line.get_xy()[:, 0].max() == pytest.approx(float(real[:, k].max()), rel=1e-4)
        assert len(a.get_xticklabels()) > 1


def test_a_few_whole_numbers_have_a_bin_each():
    real = torch.tensor([0.0, 0.0, 1.0, 3.0])[:, None].expand(4, 3)
    axes = drawn_axes(real, Space.continuous((3,)), real)
    assert [bar.get_height() for bar in axes[0].patches[:-1]] == [0.5, 0.25, 0, 0.25]
    assert axes[0].patches[0].get_x() == -0.5


def test_columns_beyond_the_shown_ones_are_counted_in_words(monkeypatch):
    monkeypatch.setattr("dgm.report.table_figure.HISTOGRAMS", 6)
    axes = drawn_axes(torch.zeros(5, 7), Space.continuous((7,)))
    assert sum(a.axison for a in axes) == 6
    assert axes[0].figure.get_suptitle() == "the first 6 of 7 columns"


def test_a_plane_has_axes_with_names_and_the_data_behind():
    real = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    (axes,) = drawn_axes(real + 0.1, Space.continuous((2,)), real, [Column(name=name) for name in ("$\\frac$", "b")])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$\\frac$", "b")
    behind, points = axes.collections
    assert torch.allclose(torch.from_numpy(behind.get_offsets().data).float(), real)
    assert torch.allclose(torch.from_numpy(points.get_offsets().data).float(), real + 0.1)


@pytest.mark.parametrize("name", ["$\\frac$", "a_b^c {", "\u5b57\u8a9e", "x" * 300])
def test_any_name_of_a_column_can_be_drawn(name):
    assert (
        scatter(torch.zeros(5, 3), Space.continuous((3,)), None, [Column(name=text) for text in (name, "b", "c")]).width
        > 0
    )


def test_texts_stand_under_one_another() -> None:
    from dgm.report.pictures import lines

    one, two = (lines(["a word " * 20] * n) for n in (1, 2))
    assert two.height == 2 * one.height
    shades = numpy.asarray(two.convert("L"))
    assert (shades[: one.height] == shades[one.height :]).all()
    assert (shades < 128).any()


def test_a_tone_is_a_line_of_its_spectrogram() -> None:
    from dgm.report.sound import decibels

    rate = 8000
    found = decibels(numpy.sin(2 * numpy.pi * 1000 * numpy.arange(rate) / rate), rate)
    loudest = found[:, 3:-3].argmax(0) * rate / 2 / (len(found) - 1)
    assert (abs(loudest - 1000) < 70).all()
    assert found.max() == 0


def test_a_grid_is_square_and_unbounded_values_are_stretched() -> None:
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 2, 3) - 7
    picture = numpy.asarray(grid(x, Space.continuous((1, 2, 3)), scale=1))
    assert picture.shape == (2 * 3 - 1, 3 * 4 - 1, 3)  # two rows of three
    assert [picture[0, 0, 0], picture[0, 4, 0], picture[0, 8, 0]] == [0, 64, 128]
    assert [picture[3, 0, 0], picture[3, 4, 0]] == [191, 255]


def test_states_run_from_left_to_right_an_image_a_row() -> None:
    """Value 10 k + i of image i at state k."""
    states = [
        torch.tensor([10 * k, 10 * k + 1], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4) for k in range(4)
    ]
    picture = numpy.asarray(strip(states, Space.levels((1, 4, 4), 256)))[..., 0]
    scale = 10  # to 40 pixels
    places = [(row * 5 * scale, column * 5 * scale) for row in range(2) for column in range(4)]
    assert [picture[place] for place in places] == [0, 10, 20, 30, 1, 11, 21, 31]
    points = [torch.randn(5, 2), torch.randn(5, 2)]
    plots = numpy.asarray(strip(points, Space.continuous((2,))))
    for k, x in enumerate(points):
        alone = numpy.asarray(scatter(x, Space.continuous((2,)), points[-1]))
        assert (plots[:, k * alone.shape[1] : (k + 1) * alone.shape[1]] == alone).all()


def test_an_animation_rests_on_its_last_picture(tmp_path: Path) -> None:
    pictures = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
    save_animation(pictures, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as found:
        seen = []
        for k in range(found.n_frames):
            found.seek(k)
            seen.append((found.info["duration"], found.convert("L").getpixel((0, 0))))
    assert seen == [(80, 0), (80, 100), (2000, 200)]


def test_a_spectrograms_axes_are_seconds_and_kilohertz(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgm.report import sound

    made = []

    class Watched(Figure):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(sound, "Figure", Watched)
    sound.spectrograms(torch.randint(256, (3, 1, 4000)), 8000)
    shown = [axes.get_images()[0] for axes in made[0].axes if axes.get_images()]
    assert [list(image.get_extent()) for image in shown] == [[0, 0.5, 0, 4]] * 3
    assert {image.get_clim() for image in shown} == {(-80, 0)}
    assert len(made[0].axes) == 4  # two rows of two


def test_decibels_are_twenty_a_decade_down_to_a_floor() -> None:
    from dgm.report.sound import decibels

    rate = 8000
    tone = numpy.sin(2 * numpy.pi * 1000 * numpy.arange(rate) / rate)
    tone[rate // 2 :] *= 0.1
    found = decibels(tone, rate)
    assert found.shape[0] == round(0.016 * rate) // 2 + 1
    row = found.max(1).argmax()
    early, late = found[row, found.shape[1] // 4], found[row, 3 * found.shape[1] // 4]
    assert early == pytest.approx(0, abs=0.1)
    assert late == pytest.approx(-20, abs=0.1)
    assert found.min() == pytest.approx(-80)


def test_a_row_has_its_condition_at_its_left() -> None:
    """Kills: rows exchanged, a condition beside another's images, a picture that is drawn as words."""
    from dgm.condition import Names
    from dgm.data import Dataset, Split
    from dgm.report import conditions

    space, small = Space.levels((1, 4, 4), 256), Space.levels((1, 2, 2), 256)
    x = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 1, 4, 4) * 30
    part = Split(x, x[:, :, :2, :2] + 1)
    parts: dict[str, Any] = dict.fromkeys(("train", "validation", "test"), part)
    pictured = Dataset(name="a", space=space, split="", condition=small, **parts)
    y = conditions.conditions_shown(pictured, "test")
    assert torch.equal(y, (x + 1)[: conditions.ROWS, :, :2, :2])
    rows = conditions.real_rows(pictured, "test", y)
    drawn = conditions.picture(rows, y, pictured)
    height = drawn.height // conditions.ROWS
    for k in range(conditions.ROWS):
        seen = [drawn.getpixel((across, k * height + height // 2)) for across in (10, drawn.width - 10)]
        assert seen == [(30 * k + 1,) * 3, (30 * k,) * 3]

    odd = Split(x, (torch.arange(8) % 2)[:, None].to(torch.uint8))
    parts = dict.fromkeys(parts, odd)
    named = Dataset(
        name="b", space=space, split="", condition=Space.binary((1,)), names=Names(columns=("odd",)), **parts
    )
    y = conditions.conditions_shown(named, "test")
    assert y.tolist() == [[0], [1]]
    assert [row[:, 0, 0, 0].tolist() for row in conditions.real_rows(named, "test", y)] == [
        [0, 60, 120, 180],
        [30, 90, 150, 210],
    ]
    assert conditions.picture(conditions.real_rows(named, "test", y), y, named).height > 90
