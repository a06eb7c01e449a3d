"""Kernel density estimates against scikit-learn and the integral of their kernels."""

from __future__ import annotations

import itertools

import numpy
import pytest
import torch
from sklearn.neighbors import KernelDensity

from dgm.models.mixture import kde
from dgm.models.mixture.kde import KDE
from dgm.space import Space

KERNELS = ("gaussian", "epanechnikov", "tophat")


def fitted(x: torch.Tensor, **config: object) -> KDE:
    model = KDE(Space.continuous((x.shape[1],)), KDE.Config(**config))  # type: ignore[arg-type]
    assert len(list(model.fit([(x[:30], None), (x[30:], None)]))) == 1
    return model


@pytest.mark.parametrize("bandwidth", [0.7, "scott", "silverman"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_densities_are_scikit_learns(kernel: str, bandwidth: float | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several blocks, the last one not full. Kills: a block or its last points left out, a bandwidth without its
    power D, the volume of the ball, Silverman's factor.
    """
    monkeypatch.setattr(kde, "BLOCK", 33)
    x, other = torch.randn(100, 3), torch.randn(50, 3)
    model = fitted(x, kernel=kernel, bandwidth=bandwidth)
    theirs = KernelDensity(kernel=kernel, bandwidth=bandwidth, rtol=0, atol=0).fit(x.double())
    expected = theirs.score_samples(other.double())
    near = expected > -30  # scikit-learn's sums leave a rounding error of about e^-37 where no kernel reaches
    found = model.log_prob(other).numpy()
    assert numpy.allclose(found[near], expected[near], atol=1e-5)
    assert numpy.isneginf(found[~near]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_have_the_kernels_moments(kernel: str) -> None:
    """About one point: E r^2 and E r^4 of each kernel in D = 3, in closed form; h in the scaled units.

    Kills: a ball of another dimension, a radius that is uniform.
    """
    space = Space.continuous((3,), loc=(1.0, 1.0, 1.0), scale=(2.0, 2.0, 2.0))
    model = KDE(space, KDE.Config(kernel=kernel, bandwidth=0.5))  # type: ignore[arg-type]
    model.points = torch.tensor([[1.0, -2.0, 0.0]], dtype=torch.float64)
    n = 20_000
    r = ((model.sample(n, seed=1) - torch.tensor([3.0, -3.0, 1.0])) / (2 * 0.5)).double().square().sum(1)
    second, fourth = {"gaussian": (3, 15), "epanechnikov": (3 / 7, 5 / 21), "tophat": (3 / 5, 3 / 7)}[kernel]
    for power, expected in ((1, second), (2, fourth)):
        found = r**power
        assert abs(float(found.mean()) - expected) < 5 * float(found.std()) / n**0.5  # a false alarm in a million


def test_the_density_of_a_part_is_the_estimate_of_that_part() -> None:
    """In the units of the data, of each row's own part. Kills: a constant of all dimensions."""
    model = KDE(Space.continuous((3,), scale=(2.0, 0.5, 4.0)), KDE.Config(bandwidth=0.5))
    points, x = model.points * torch.tensor([2.0, 0.5, 4.0]), torch.randn(8, 3)
    observed = torch.tensor(list(itertools.product((False, True), repeat=3)))
    found = model.log_prob_observed(x, observed)
    for row, part, log_p in zip(x, observed, found, strict=True):
        kernels = torch.distributions.Normal(points[:, part], 0.5 * torch.tensor([2.0, 0.5, 4.0])[part])
        assert float(log_p) == pytest.approx(float(kernels.log_prob(row[part]).sum(1).exp().mean().log()), abs=1e-4)


def test_values_that_are_missing_have_independent_noise() -> None:
    """About one point, whose kernel has no correlation. Kills: one number of noise for a whole row."""
    model, n = KDE(Space.continuous((3,)), KDE.Config(bandwidth=0.5)), 4000
    model.points = torch.tensor([[1.0, -2.0, 0.0]], dtype=torch.float64)
    drawn = model.impute(torch.zeros(n, 3), torch.tensor([True, False, False]).expand(n, 3), seed=0)[:, 1:]
    # five standard errors of a variance
    torch.testing.assert_close(drawn.mT.cov(), 0.25 * torch.eye(2), rtol=0, atol=5 * 0.25 * (2 / n) ** 0.5)


def test_the_bandwidth_is_the_leave_one_out_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    """By taking each point away, in blocks. Kills: a point that explains itself, N in the place of N - 1, a point left
    out of each block.
    """
    monkeypatch.setattr(kde, "BLOCK", 17)
    x = torch.randn(40, 2).double()
    model = fitted(x, bandwidth="cv")
    scores = []
    for h in 40 ** (-1 / 6) * kde.FACTORS:
        rest = [
            KernelDensity(bandwidth=float(h)).fit(x[torch.arange(40) != k]).score_samples(x[k : k + 1])
            for k in range(40)
        ]
        scores.append(float(numpy.mean(rest)))
    assert float(model.h) == pytest.approx(float(40 ** (-1 / 6) * kde.FACTORS[int(numpy.argmax(scores))]))
    own = model.log_density(x, model.h[None], torch.arange(40))[0].mean()
    assert float(own) == pytest.approx(max(scores), abs=1e-9)


def test_a_fitted_one_is_made_again_from_its_weights() -> None:
    model = fitted(torch.randn(50, 2), bandwidth="scott")
    again = KDE(model.space, model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(torch.zeros(1, 2)), model.log_prob(torch.zeros(1, 2)))
    assert list(again.fit([(torch.zeros(3, 2), None)])) == []


def test_the_grid_of_bandwidths_and_the_points_that_choose_among_them() -> None:
    """26 from a hundredth of Scott's to three times; every point has one vote. Kills: a mean of the blocks' means."""
    factors = kde.FACTORS
    assert (len(factors), float(factors[0]), float(factors[-1])) == (26, pytest.approx(0.01), pytest.approx(10**0.5))
    model = fitted(torch.randn(300, 1), bandwidth=0.5)
    object.__setattr__(model.config, "bandwidth", "cv")

    def log_density(z: torch.Tensor, h: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
        votes = torch.zeros(len(h), len(z))
        votes[3 if len(z) == 256 else 7] = 1.0 if len(z) == 256 else 5.0  # 256 points in all, or 220 of 44
        return votes

    model.log_density = log_density  # type: ignore[method-assign, assignment]
    assert model.bandwidth(torch.arange(300)) == pytest.approx(float(300 ** (-1 / 5) * factors[3]))


def test_the_loss_is_of_the_datas_units_and_samples_are_of_every_point() -> None:
    space = Space.continuous((1,), loc=(1.0,), scale=(2.0,))
    model, x = KDE(space, KDE.Config(bandwidth=1e-3)), torch.tensor([[0.0], [4.0], [9.0]])
    (loss,) = model.fit([(x, None)])
    assert loss == pytest.approx(-float(model.log_prob(x).mean()), abs=1e-5)
    counts = (model.sample(3000, seed=0) / 4).round().long().flatten().bincount()
    assert (counts - 1000).abs().max() < 5 * 26  # a standard deviation of (3000 · 2 / 9)^(1/2)
