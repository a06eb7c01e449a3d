"""Pictures show every pixel of every example, in its place and at its shade."""

import numpy
import pytest
import torch

from dgm import Space
from dgm.errors import Unsupported
from dgm.report.pictures import SEPARATOR, grid, scatter


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
    assert grey(alone) < 0.01 < 0.1 < grey(beside)


def test_a_column_that_is_constant_is_drawn():
    assert scatter(torch.zeros(10, 3), Space.continuous((3,)), torch.zeros(10, 3)).size == (480, 480)


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
