"""Probabilistic principal components against scikit-learn, a dense normal and its own monotonicity."""

from __future__ import annotations

from itertools import pairwise

import numpy
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

import dgm
from dgm.models.mixture.ppca import PPCA
from dgm.space import Space

SPACE = Space.continuous((6,), loc=(1.0,) * 6, scale=(2.0,) * 6)


def rows(n: int = 500) -> torch.Tensor:
    return torch.randn(n, 6) @ torch.randn(6, 6) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.3, 0.2]) + 1


def fitted(x: torch.Tensor, **config: object) -> tuple[PPCA, list[float]]:
    model = PPCA(SPACE, PPCA.Config(latent=2, **config))  # type: ignore[arg-type]
    return model, list(model.fit([(x[:200], None), (x[200:], None)]))


def test_the_closed_form_is_scikit_learns() -> None:
    """Its densities at N in the place of N - 1. Kills: sigma^2 not taken from the eigenvalues, the log-determinant of M
    without sigma^2 to the D - q, the log-determinant of the scaling.
    """
    x = rows()
    model, losses = fitted(x)
    theirs = PCA(2, svd_solver="full").fit(x.double().numpy())
    theirs.explained_variance_ = theirs.explained_variance_ * (len(x) - 1) / len(x)
    theirs.noise_variance_ = theirs.noise_variance_ * (len(x) - 1) / len(x)
    expected = theirs.score_samples(x.double().numpy())
    assert numpy.allclose(model.log_prob(x), expected, atol=1e-3)  # float32
    assert losses == [pytest.approx(-expected.mean(), abs=1e-5)]


def test_the_density_is_the_dense_normals() -> None:
    model = PPCA(Space.continuous((4,)), PPCA.Config(latent=2))
    x = torch.randn(20, 4)
    covariance = model.W @ model.W.T + model.variance * torch.eye(4)
    expected = multivariate_normal(model.mean, covariance).logpdf(x.double())
    assert numpy.allclose(model.log_prob(x), expected, atol=1e-5)


def test_passes_of_em_gain_and_reach_the_closed_form() -> None:
    """Kills: equation 29 with W in the place of its successor, M without sigma^2."""
    x = rows()
    closed, best = fitted(x)
    model, losses = fitted(x, fitting="em", tolerance=1e-9)
    assert all(b <= a + 1e-9 for a, b in pairwise(losses))
    assert losses[-1] == pytest.approx(best[0], abs=1e-5)
    assert torch.allclose(model.log_prob(x), closed.log_prob(x), atol=2e-2)  # of a flat maximum
    assert losses[0] == pytest.approx(float(-PPCA(SPACE, model.config).log_prob(x).mean()), rel=0.5)


def test_a_pass_of_em_is_the_sum_over_examples() -> None:
    """Equations 25 to 28, by the posterior moments of each example. Kills: equation 30 with W for its successor."""
    x = rows(200)
    model = PPCA(SPACE, PPCA.Config(latent=2, fitting="em"))
    t, W, variance = model.scaled(x) - model.scaled(x).mean(0), model.W.clone(), float(model.variance)
    M = W.mT @ W + variance * torch.eye(2)
    z = t @ W @ M.inverse()
    zz = variance * M.inverse() + z[:, :, None] * z[:, None]
    next(model.fit([(x[:80], None), (x[80:], None)]))
    torch.testing.assert_close(model.W, t.mT @ z @ zz.sum(0).inverse())
    of_each = t.square().sum(1) - 2 * ((z @ model.W.mT) * t).sum(1) + (zz * (model.W.mT @ model.W)).sum((1, 2))
    torch.testing.assert_close(model.variance, of_each.mean() / 6)


def test_samples_and_completions_follow_it() -> None:
    """Kills: a variance for its root, W left out, the observed part ignored."""
    model, _ = fitted(rows())
    n = 20_000
    x = (model.sample(n, seed=1).double() - 1) / 2
    covariance = model.W @ model.W.T + model.variance * torch.eye(6)
    products = (x - model.mean)[:, :, None] * (x - model.mean)[:, None]
    assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / n**0.5).all()  # a false alarm in a million
    seen = torch.tensor([True, True, True, True, True, False])
    drawn = (dgm.sample(model, n, given=torch.full((1, 6), 3.0), observed=seen, seed=2)[:, 5].double() - 1) / 2
    precision = covariance.inverse()
    mean = model.mean[5] - precision[5, :5] @ (1.0 - model.mean[:5]) / precision[5, 5]
    assert abs(drawn.mean() - mean) < 5 * (1 / precision[5, 5] / n) ** 0.5
    assert float(drawn.var() * precision[5, 5]) == pytest.approx(1, abs=5 * (2 / n) ** 0.5)


def test_data_in_a_subspace_keeps_a_finite_density() -> None:
    model = PPCA(Space.continuous((3,)), PPCA.Config(latent=2))
    x = torch.randn(50, 1) * torch.ones(3)
    list(model.fit([(x, None)]))
    assert torch.isfinite(model.log_prob(x)).all()


def test_there_is_at_least_one_dimension_of_noise() -> None:
    """As many components as dimensions, or more, are one less: the variance of the noise is a mean of the others."""
    x = torch.randn(50, 3)
    (expected,) = PPCA(Space.continuous((3,)), PPCA.Config(latent=2)).fit([(x, None)])
    for latent in (3, 16):
        model = PPCA(Space.continuous((3,)), PPCA.Config(latent=latent))
        assert model.W.shape == (3, 2)
        (loss,) = model.fit([(x, None)])
        assert loss < 20
        assert loss == pytest.approx(expected)
        assert float(model.variance) > 0
