"""Sprites: areas, centres and symmetries of the drawn shapes, each combination of factors once."""

from __future__ import annotations

import math

import pytest
import torch

from dgm import data
from dgm.data.sprites import SIDE, SIZES, images


def every(**fixed: int) -> torch.Tensor:
    """All factors with some of them fixed, in lexicographic order."""
    return torch.cartesian_prod(
        *(torch.tensor([fixed[name]]) if name in fixed else torch.arange(size) for name, size in SIZES.items())
    )


def test_each_combination_is_there_once_with_an_image_of_its_own() -> None:
    sprites, again = data.load("sprites"), data.load("sprites")
    x, y = (torch.cat([getattr(split, name) for split in sprites.splits.values()]) for name in ("x", "y"))
    radix = torch.tensor([8640, 1440, 144, 12, 1]).double()
    assert (y @ radix).sort().values.tolist() == list(range(math.prod(SIZES.values())))
    projected = x.flatten(1).double() @ torch.rand(SIDE**2, generator=torch.Generator().manual_seed(0)).double()
    assert len(projected.unique()) == len(x) - 40  # angles of the smallest squares that differ by less than a pixel
    assert torch.equal(sprites.test.x, again.test.x)
    assert torch.equal(sprites.test.y, again.test.y)
    assert torch.equal(images(y[:200].long()), x[:200])
    sprites.space.check(x)
    assert sprites.condition is not None
    sprites.condition.check(y)
    assert sprites.condition.split(y)["scale"].tolist() == y[:, 1].tolist()


@pytest.mark.parametrize("factor", SIZES)
def test_one_factor_alone_may_be_the_label(factor: str) -> None:
    """Of the same images in the same order."""
    whole, one = data.load("sprites"), data.load(f"sprites/{factor}")
    assert torch.equal(one.test.x, whole.test.x)
    assert whole.condition is not None
    assert whole.test.y is not None
    assert torch.equal(one.test.y.double(), whole.test.y[:, list(SIZES).index(factor)])  # type: ignore[union-attr]
    assert one.labels == (
        ("square", "ellipse", "heart") if factor == "shape" else tuple(map(str, range(SIZES[factor])))
    )


@pytest.mark.parametrize(("shape", "area"), [(0, 1.4**2), (1, math.pi / 2)])
def test_the_area_is_that_of_the_shape(shape: int, area: float) -> None:
    """Averaged over positions and angles, in which the pixels' grid is at random: to 1 %."""
    for scale, s in ((0, 5.0), (5, 10.0)):
        drawn = images(every(shape=shape, scale=scale)).double().sum((1, 2, 3)).mean()
        assert float(drawn) == pytest.approx(area * s**2, rel=0.01)


def test_x_moves_to_the_right_and_y_downwards() -> None:
    """The centre of mass of a square and of an ellipse is the centre, to a pixel's rounding."""
    for shape in (0, 1):
        factors = every(shape=shape, scale=5, angle=0)
        mass = images(factors)[:, 0].double()
        at = torch.arange(SIDE).double() + 0.5
        column = (mass * at).sum((1, 2)) / mass.sum((1, 2))
        row = (mass * at[:, None]).sum((1, 2)) / mass.sum((1, 2))
        assert (column - (10 + 12 * factors[:, 3] / 11)).abs().max() < 0.5
        assert (row - (10 + 12 * factors[:, 4] / 11)).abs().max() < 0.5


def test_an_angle_turns_anticlockwise() -> None:
    """The long axis of the ellipse, the eigenvector of its second moments, has the angle of the factor."""
    for angle in range(1, 10):
        pixels = images(torch.tensor([[1, 5, angle, 5, 5]]))[0, 0].nonzero().double()
        right, up = pixels[:, 1], -pixels[:, 0]
        (a, b), (_, c) = torch.stack([right, up]).cov()
        assert 0.5 * float(torch.atan2(2 * b, a - c)) == pytest.approx(math.pi / 2 * angle / 10, abs=0.06)


def test_a_heart_is_symmetric_and_pointed_at_the_bottom() -> None:
    """At a centre in the middle of the picture, its mirror image is itself."""
    from dgm.data.sprites import heart

    at = torch.linspace(-1, 1, 41)
    drawn = heart(at, -at[:, None])
    assert torch.equal(drawn, drawn.flip(1))
    rows = drawn.sum(1)[drawn.any(1)]
    assert rows[-1] < rows[0]
    assert drawn[:, 20].nonzero()[0] != drawn.any(1).nonzero()[0]  # the notch
