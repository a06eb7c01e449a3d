"""The mixture of Gaussians against scikit-learn, moments and its own monotonicity."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
import torch
from sklearn.mixture import GaussianMixture

from dgm.models.mixture.gmm import GMM
from dgm.space import Space

PLANE = Space.continuous((2,))


def spots(n: int = 600) -> torch.Tensor:
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]])
    return centres[torch.arange(n) % 3] + torch.randn(n, 2) * torch.tensor([0.5, 1.0])


def fitted(x: torch.Tensor, **config: float) -> tuple[GMM, list[float]]:
    model = GMM(PLANE, GMM.Config(**{"components": 3, "shrinkage": 0.0, "ridge": 1e-6, **config}))
    return model, list(model.fit([(x[:250], None), (x[250:], None)]))


def test_log_density_is_scikit_learns() -> None:
    x = spots()
    theirs = GaussianMixture(3, random_state=0).fit(x.double().numpy())
    model = GMM(PLANE, GMM.Config(components=3))
    model.weights.copy_(torch.from_numpy(theirs.weights_))
    model.means.copy_(torch.from_numpy(theirs.means_))
    model.covariances.copy_(torch.from_numpy(theirs.covariances_))
    expected = theirs.score_samples(x.double().numpy())
    assert numpy.allclose(model.log_prob(x).numpy(), expected, atol=1e-4)


def test_expectation_maximisation_reaches_scikit_learns_optimum() -> None:
    x = spots()
    model, losses = fitted(x)
    theirs = GaussianMixture(3, n_init=5, tol=1e-6, random_state=0).fit(x.double().numpy())
    assert -losses[-1] == pytest.approx(theirs.score(x.double().numpy()), abs=5e-3)
    assert all(b <= a + 1e-9 for a, b in pairwise(losses)), "a pass lost likelihood"
    assert float(-model.log_prob(x).mean()) <= losses[-1] + 1e-4


def test_one_component_is_the_moments() -> None:
    x = spots()
    model, _ = fitted(x, components=1)
    assert torch.allclose(model.means[0], x.double().mean(0), atol=1e-6)
    assert torch.allclose(model.covariances[0], x.double().T.cov(correction=0), atol=1e-5)


def test_scaling_pays_its_log_determinant() -> None:
    """The same mixture on the same points in other units: densities differ by the log of the units alone."""
    x = spots()
    plain, _ = fitted(x)
    space = Space.continuous((2,), loc=(3.0, -1.0), scale=(10.0, 0.1))
    scaled = GMM(space, plain.config)
    scaled.load_state_dict(plain.state_dict())
    stretched = x * torch.tensor([10.0, 0.1]) + torch.tensor([3.0, -1.0])
    assert torch.allclose(scaled.log_prob(stretched), plain.log_prob(x) - math.log(10 * 0.1), atol=1e-3)


def test_a_component_that_lost_its_mass_starts_again() -> None:
    x = spots()
    model, _ = fitted(x)
    model.means[2] = 1e4
    model.gain.fill_(torch.inf)  # as if it had not converged
    next(model.fit([(x, None)]))
    assert model.means.abs().max() < 100
    assert torch.linalg.eigvalsh(model.covariances).min() > 0
    assert model.weights.sum().item() == pytest.approx(1)


def test_identical_points_do_not_collapse_it() -> None:
    x = torch.ones(300, 2)
    model, losses = fitted(x)
    assert math.isfinite(losses[-1])
    assert torch.isfinite(model.log_prob(x)).all()


def test_it_goes_on_from_its_buffers() -> None:
    x = spots()
    torch.manual_seed(1)
    whole, _ = fitted(x)
    torch.manual_seed(1)
    part = GMM(PLANE, whole.config)
    steps = part.fit([(x[:250], None), (x[250:], None)])
    next(steps)
    again = GMM(PLANE, whole.config)
    again.load_state_dict(part.state_dict())
    list(again.fit([(x[:250], None), (x[250:], None)]))
    assert torch.equal(again.means, whole.means)
