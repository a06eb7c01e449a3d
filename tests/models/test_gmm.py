"""The mixture of Gaussians against scikit-learn, moments and its own monotonicity."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy
import pytest
import torch
from scipy.stats import multivariate_normal
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


def one_pass(model: GMM, z: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """The next parameters, by the docstring's formulas, an example and a component at a time."""
    k, n, d = len(model.weights), len(z), z.shape[1]
    weights, means, covariances = (v.numpy() for v in (model.weights, model.means, model.covariances))
    densities = numpy.stack([multivariate_normal(means[j], covariances[j]).pdf(z) * weights[j] for j in range(k)], 1)
    r = densities / densities.sum(1, keepdims=True)
    mass = r.sum(0)
    means = numpy.stack([sum(r[i, j] * z[i] for i in range(n)) / mass[j] for j in range(k)])
    scatter = [sum(r[i, j] * numpy.outer(z[i] - means[j], z[i] - means[j]) for i in range(n)) for j in range(k)]
    pooled, s = sum(scatter) / n, model.config.shrinkage
    shrunk = [(scatter[j] + s * pooled) / (mass[j] + s) + model.config.ridge * numpy.eye(d) for j in range(k)]
    loss = -numpy.log(densities.sum(1)).mean() + numpy.log(model.space.scale).sum()
    return {"weights": mass / n, "means": means, "covariances": numpy.stack(shrunk), "loss": loss}


def test_a_pass_is_the_formulas() -> None:
    """In other units than the scaled ones, with shrinkage and a ridge, three components of unlike mass.

    Kills: the log-determinant left out of the fit's loss, trust in the place of 1 - trust, a mean of covariances that
    is not weighted, the ridge or a component's mean left out.
    """
    space = Space.continuous((3,), loc=(1.0, -2.0, 3.0), scale=(10.0, 0.1, 3.0))
    model = GMM(space, GMM.Config(components=3, shrinkage=7.0, ridge=0.05))
    x = torch.randn(60, 3) * torch.tensor([8.0, 0.2, 2.0]) + torch.tensor([3.0, -2.0, 0.0])
    batches = [(x[:40], None), (x[40:], None)]
    model.start(batches)
    z = model.scaled(x).numpy()
    start = numpy.cov(z.T, bias=True) + 0.05 * numpy.eye(3)
    assert all(numpy.allclose(covariance, start) for covariance in model.covariances)
    assert model.weights.tolist() == pytest.approx([1 / 3] * 3)
    for _ in range(2):
        expected, loss_before = one_pass(model, z), float(-model.log_prob(x).mean())
        loss = next(model.fit(batches))
        assert loss == pytest.approx(expected["loss"], abs=1e-6)  # the space's scales are float32
        assert loss == pytest.approx(loss_before, abs=1e-4)
        for name in ("weights", "means", "covariances"):
            assert numpy.allclose(getattr(model, name), expected[name], atol=1e-9), name


def test_a_lost_component_takes_the_worst_explained_example_and_the_pooled_covariance() -> None:
    x = spots(60).double()
    model = GMM(PLANE, GMM.Config(components=3, shrinkage=2.0, ridge=1e-3))
    batches = [(x[:25], None), (x[25:], None)]
    model.start(batches)
    model.means[1] = 1e3
    with torch.no_grad():
        log_p, log_joint = model.log_prob(x), model.log_joint(model.scaled(x))
    r = (log_joint[:, [0, 2]] - log_joint[:, [0, 2]].logsumexp(1, keepdim=True)).exp()
    means = (r.T @ x) / r.sum(0)[:, None]
    pooled = sum((r[:, j, None] * (x - means[j])).T @ (x - means[j]) for j in range(2)) / 60
    next(model.fit(batches))
    assert torch.allclose(model.means[1], x[log_p.argmin()])
    assert torch.allclose(model.covariances[1], pooled + 1e-3 * torch.eye(2), atol=1e-8)
    assert model.weights[1].item() == pytest.approx((1 / 60) / (61 / 60))


def test_centres_start_in_proportion_to_the_squared_distance() -> None:
    """Of points 0, 1 and 10 each is the first in a third of all starts. Kills: the distance without its square."""
    x, n = torch.tensor([[0.0], [1.0], [10.0]]), 400
    model, seen = GMM(Space.continuous((1,)), GMM.Config(components=2)), Counter[tuple[float, ...]]()
    for _ in range(n):
        model.start([(x, None)])
        seen[tuple(sorted(model.means.flatten().tolist()))] += 1
    chances = {(0, 1): (1 / 101 + 1 / 82) / 3, (0, 10): (100 / 101 + 100 / 181) / 3, (1, 10): (81 / 82 + 81 / 181) / 3}
    for pair, p in chances.items():
        assert abs(seen[pair] / n - p) < 5 * math.sqrt(p * (1 - p) / n), pair
    model = GMM(Space.continuous((1,)), GMM.Config(components=3))
    model.start([(x[:2], None), (x[2:], None)])
    assert sorted(model.means.flatten().tolist()) == [0, 1, 10], "a centre was drawn twice"


def test_it_stops_once_a_pass_gains_less_than_the_tolerance() -> None:
    _, losses = fitted(spots(), tolerance=1e-3)
    gains = [a - b for a, b in pairwise(losses)]
    assert min(gains[:-1]) >= 1e-3 > gains[-1]


def test_untrained_it_covers_the_scaled_axes_once() -> None:
    """Means of variance 1/9 and covariances of 1/9: about the unit ball, whatever the number of components."""
    model = GMM(Space.continuous((5,)), GMM.Config(components=400))
    assert model.means.var().item() == pytest.approx(1 / 9, rel=5 * math.sqrt(2 / 2000))
    assert torch.allclose(model.covariances, torch.eye(5, dtype=torch.float64) / 9)
    assert torch.allclose(model.weights, torch.full((400,), 1 / 400, dtype=torch.float64))
    far = GMM(PLANE, GMM.Config(components=2, ridge=1e-3))
    loss = next(far.fit([(spots(50) + 1000, None)]))
    assert loss < 10, "the fit did not start from the data"
