"""Restorations of Gaussian images, whose posterior is known, and the walk that they take."""

from __future__ import annotations

import pytest
import torch
from correlated import Correlated, smooth
from torch import Tensor

from dgm.editing.operators import Average, Blur, Masked, Operator
from dgm.editing.resampling import Resampling
from dgm.editing.restore import inpaint, restore
from dgm.errors import BadInput
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight

SHAPE = (1, 4, 4)
UPPER = torch.zeros(SHAPE, dtype=torch.bool)
UPPER[:, :2] = True
EVERYTHING = torch.ones(SHAPE, dtype=torch.bool)
N = 800


@pytest.fixture(scope="module")
def model() -> Correlated:
    return Correlated(SHAPE, smooth(4, 4))


def restored(model: Correlated, operator: Operator, y: Tensor, noise_std: float, resampling: Resampling) -> Tensor:
    measured = y.expand(N, *y.shape[1:])
    *_, last = restore(model, measured, operator, noise_std=noise_std, seed=0, resampling=resampling)
    return last.x


def share(model: Correlated, x: Tensor, expected: Tensor, where: Tensor) -> float:
    """How far the mean of x went from the prior's to the posterior's."""
    way, gone = ((mean - model.mean)[where.flatten()] for mean in (expected, x.flatten(1).mean(0)))
    return float(gone @ way / (way @ way))


@pytest.mark.parametrize(
    ("resamplings", "low", "high"),
    [(1, 0.3, 0.65), (5, 0.75, 0.98), (15, 0.88, 1.08)],
)
def test_in_painting_comes_to_the_posterior_the_more_it_is_resampled(
    model: Correlated, resamplings: int, low: float, high: float
) -> None:
    """The upper half is one standard deviation off its mean; a standard error is 0.05."""
    x = torch.linalg.cholesky(model.covariance) @ torch.ones(16, dtype=torch.float64) + model.mean
    x = x.view(1, *SHAPE)
    expected, covariance = model.posterior(Masked(UPPER), x * UPPER)
    *_, last = inpaint(model, x.expand(N, *SHAPE), UPPER, seed=0, resampling=Resampling(resamplings=resamplings))
    assert (last.x[UPPER.expand_as(last.x)] == x.expand_as(last.x)[UPPER.expand_as(last.x)]).all()
    assert low < share(model, last.x, expected, ~UPPER) < high
    lower = last.x.flatten(1)[:, ~UPPER.flatten()]
    ratio = lower.var(0).sum() / covariance.diagonal()[~UPPER.flatten()].sum()
    assert 0.75 < ratio < 1.1  # 50 steps of the posterior's variance spread too little


@pytest.mark.parametrize(
    ("operator", "noise_std"),
    [(Masked(UPPER), 0.5), (Average(2), 0.0), (Average(2), 0.2), (Blur((4, 4), 1.0), 0.2), (Masked(EVERYTHING), 0.5)],
    ids=["noisy mask", "average", "noisy average", "noisy blur", "noise alone"],
)
def test_samples_follow_the_posterior(model: Correlated, operator: Operator, noise_std: float) -> None:
    x = model.draw(1)
    y = operator(x)
    y = y + noise_std * torch.randn_like(y)
    expected, covariance = model.posterior(operator, y, noise_std)
    found = restored(model, operator, y, noise_std, Resampling())
    assert share(model, found, expected, EVERYTHING) == pytest.approx(1, abs=0.12)
    assert (found.flatten(1).mean(0) - expected).square().mean().sqrt() < 0.12
    assert 0.75 < found.flatten(1).var(0).sum() / covariance.trace() < 1.1


@pytest.mark.parametrize("path", [CosineVP(), LinearVE(10.0), Straight()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("operator", [Masked(UPPER), Average(2), Blur((4, 4), 1.5)], ids=lambda a: type(a).__name__)
def test_without_noise_what_was_measured_is_measured_again(path: GaussianPath, operator: Operator) -> None:
    model = Correlated(SHAPE, smooth(4, 4), path=path)
    y = operator(model.draw(5))
    *_, last = restore(model, y, operator, seed=0, resampling=Resampling(steps=7, jump=2, resamplings=2))
    torch.testing.assert_close(operator(last.x), y, atol=1e-9, rtol=0)
    assert last.step == last.steps


def test_a_result_depends_on_its_own_number_alone(model: Correlated) -> None:
    from dgm.seeds import Streams

    x = model.draw(1).expand(3, *SHAPE)
    few = Resampling(steps=5, jump=2, resamplings=2)
    *_, many = inpaint(model, x, UPPER, seed=4, resampling=few)
    *_, one = inpaint(model, x[:1], UPPER, seed=Streams(4, [2]), resampling=few)
    torch.testing.assert_close(one.x[0], many.x[2])


def test_the_walk_goes_back_and_ends() -> None:
    moves = list(Resampling(steps=7, jump=3, resamplings=3).walk())
    assert [there for _, there in moves[:-1]] == [here for here, _ in moves[1:]]
    assert (moves[0][0], moves[-1]) == (0, (6, 7))
    for step in range(6):
        assert moves.count((step, step + 1)) == 3
    assert moves.count((6, 7)) == 1
    assert list(Resampling(steps=3, resamplings=1).walk()) == [(0, 1), (1, 2), (2, 3)]
    early = list(Resampling(steps=7, jump=3, resamplings=2).walk(clear=5))
    assert (3, 0) in early
    assert (6, 3) not in early
    with pytest.raises(BadInput, match="jump must be at least 1, got 0"):
        Resampling(jump=0)
