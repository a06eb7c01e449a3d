"""Codes by DDIM inversion of Gaussian images: the ODE keeps each image's standard score."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from correlated import Correlated, smooth

from dgm.editing.inversion import decode, encode
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight
from dgm.processes.parameterisation import Prediction
from dgm.seeds import streams
from dgm.space import Space

SHAPE = (1, 3, 3)
PATHS = pytest.mark.parametrize("path", [CosineVP(), LinearVE(20.0), Straight()], ids=lambda path: type(path).__name__)


@PATHS
def test_a_code_is_decoded_to_its_image_to_first_order(path: GaussianPath) -> None:
    model = Correlated(SHAPE, smooth(3, 3), path=path)
    model.t_min = 1e-4  # so that the noise there is less than the solver's error
    x = model.draw(20)

    def error(steps: int) -> float:
        again = decode(model, encode(model, x, sampling_steps=steps), sampling_steps=steps)
        return float((again - x).square().mean().sqrt())

    assert error(400) < 0.04
    assert math.log2(error(200) / error(400)) == pytest.approx(1, abs=0.3)


def test_codes_are_standard_normal() -> None:
    model = Correlated(SHAPE, smooth(3, 3), path=Straight())
    z = encode(model, model.draw(4000), sampling_steps=100)
    torch.testing.assert_close(z.flatten(1).mean(0), torch.zeros(9).double(), atol=0.06, rtol=0)  # 3.8 standard errors
    torch.testing.assert_close(z.flatten(1).T.cov(), torch.eye(9).double(), atol=0.12, rtol=0)


@PATHS
def test_codes_are_euler_steps_of_the_ode_from_a_little_noise_and_back(path: GaussianPath) -> None:
    """Of levels in three steps, by hand: noise of an eighth of their gap, strides that grow with t, the end's noise
    divided out, labels asked of the model. Kills: each of those left out.
    """
    model, asked = Correlated(SHAPE, smooth(3, 3), path=path), []
    model.space, model.t_min = Space.levels(SHAPE, 9), 1e-5
    model.scaling.loc.fill_(4.0)
    model.scaling.scale.fill_(4.0)
    model.condition = Space.categories(2)
    best = model.predict

    def predict(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> Prediction:
        asked.append(y)
        return best(x, t)

    model.predict = predict  # type: ignore[method-assign]
    x, y = torch.randint(9, (2, *SHAPE)), torch.tensor([0, 1])
    code = encode(model, x, y, sampling_steps=3, seed=4)
    assert all(torch.equal(labels, y) for labels in asked)
    first = path.time_of(torch.tensor(1 / 8 * 2 / 8, dtype=torch.float64).log().neg())
    grid = torch.linspace(first.sqrt().item(), 1, 4, dtype=torch.float64).square()

    def moved(state: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        predicted = best(state, t[None])
        return path.alpha(s) * predicted.x_0 + path.sigma(s) * predicted.eps

    state = path.alpha(grid[0]) * (x - 4) / 4 + path.sigma(grid[0]) * streams(2, 4).normal(SHAPE)
    for t, s in pairwise(grid):
        state = moved(state, t, s)
    torch.testing.assert_close(code, state / path.sigma(grid[-1]))
    for t, s in pairwise([*grid.flip(0), torch.zeros((), dtype=torch.float64)]):
        state = moved(state, t, s)
    again = decode(model, code, y, sampling_steps=3)
    torch.testing.assert_close(again, state * 4 + 4)
    assert all(torch.equal(labels, y) for labels in asked)


def test_where_there_are_no_levels_codes_begin_at_the_networks_earliest_time() -> None:
    for t_min, first in ((0.0, 1e-4), (0.2, 0.2)):
        model, asked = Correlated(SHAPE, smooth(3, 3)), []
        model.t_min, best = t_min, model.predict
        model.predict = lambda x, t, y=None, best=best, asked=asked: asked.append(t[0].item()) or best(x, t)  # type: ignore[method-assign]
        encode(model, model.draw(1))
        assert asked[0] == pytest.approx(first)
        assert len(asked) == 100
