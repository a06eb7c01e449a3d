"""Codes by DDIM inversion of Gaussian images: the ODE keeps each image's standard score."""

from __future__ import annotations

import math

import pytest
import torch
from correlated import Correlated, smooth

from dgm.editing.inversion import decode, encode, interpolate
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight

SHAPE = (1, 3, 3)
PATHS = pytest.mark.parametrize("path", [CosineVP(), LinearVE(20.0), Straight()], ids=lambda path: type(path).__name__)


@PATHS
def test_a_code_is_decoded_to_its_image_to_first_order(path: GaussianPath) -> None:
    model = Correlated(SHAPE, smooth(3, 3), path=path)
    model.t_min = 1e-4  # so that the noise there is less than the solver's error
    x = model.draw(20)

    def error(steps: int) -> float:
        again = decode(model, encode(model, x, steps=steps), steps=steps)
        return float((again - x).square().mean().sqrt())

    assert error(400) < 0.04
    assert math.log2(error(200) / error(400)) == pytest.approx(1, abs=0.3)


def test_codes_are_standard_normal() -> None:
    model = Correlated(SHAPE, smooth(3, 3), path=Straight())
    z = encode(model, model.draw(4000), steps=100)
    torch.testing.assert_close(z.flatten(1).mean(0), torch.zeros(9).double(), atol=0.06, rtol=0)  # 3.8 standard errors
    torch.testing.assert_close(z.flatten(1).T.cov(), torch.eye(9).double(), atol=0.12, rtol=0)


def test_an_arc_has_its_ends_and_its_length() -> None:
    z, other = torch.randn(2, 1, 30, 30).double()
    other = other * z.norm() / other.norm()
    way = interpolate(z, other, torch.linspace(0, 1, 5))
    torch.testing.assert_close(way[0], z)
    torch.testing.assert_close(way[-1], other)
    torch.testing.assert_close(way.flatten(1).norm(dim=1), z.norm().expand(5))
    strides = (way[1:] - way[:-1]).flatten(1).norm(dim=1)
    torch.testing.assert_close(strides, strides[:1].expand(4))
    torch.testing.assert_close(interpolate(z, z, torch.tensor([0.5]))[0], z)
