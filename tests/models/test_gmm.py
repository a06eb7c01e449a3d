"""The mixture of Gaussians against scikit-learn, moments and its own monotonicity."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from itertools import pairwise

import numpy
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import dgm
from dgm.distributions.gaussian_mixture import Gaussians
from dgm.errors import BadInput, Unsupported
from dgm.models.mixture.gmm import GMM, Covariance
from dgm.protocols import Fittable, Trainable, has
from dgm.seeds import streams
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


@pytest.mark.parametrize("away", [1e3, 12.0])  # with no mass at all, and with a share of 1e-14
def test_a_lost_component_takes_the_worst_explained_example_and_the_pooled_covariance(away: float) -> None:
    """Kills: the worst of the last batch, or of the first."""
    x = spots(60).double()
    model = GMM(PLANE, GMM.Config(components=3, shrinkage=2.0, ridge=1e-3))
    batches = [(x[:25], None), (x[25:], None)]
    model.start(batches)
    model.means[1] = away
    with torch.no_grad():
        log_p, log_joint = model.log_prob(x), model.gaussians.log_joint(model.scaled(x))
    r = (log_joint[:, [0, 2]] - log_joint[:, [0, 2]].logsumexp(1, keepdim=True)).exp()
    means = (r.T @ x) / r.sum(0)[:, None]
    pooled = sum((r[:, j, None] * (x - means[j])).T @ (x - means[j]) for j in range(2)) / 60
    of_the_second_batch = x.roll(30 - int(log_p.argmin()), 0).split(20)
    next(model.fit([(part, None) for part in of_the_second_batch]))
    assert torch.allclose(model.means[1], x[log_p.argmin()])
    assert torch.allclose(model.covariances[1], pooled + 1e-3 * torch.eye(2), atol=1e-8)
    assert model.weights[1].item() == pytest.approx((1 / 60) / (61 / 60))


def test_centres_start_in_proportion_to_the_squared_distance() -> None:
    """Of points 0, 1 and 10 each is the first in a third of all starts.

    Kills: the distance without its square, the distance to the last centre instead of the nearest.
    """
    x, n = torch.tensor([[0.0], [1.0], [10.0]]), 400
    model, seen = GMM(Space.continuous((1,)), GMM.Config(components=2)), Counter[tuple[float, ...]]()
    for _ in range(n):
        model.start([(x, None)])
        seen[tuple(sorted(model.means.flatten().tolist()))] += 1
    chances = {(0, 1): (1 / 101 + 1 / 82) / 3, (0, 10): (100 / 101 + 100 / 181) / 3, (1, 10): (81 / 82 + 81 / 181) / 3}
    for pair, p in chances.items():
        assert abs(seen[pair] / n - p) < 5 * math.sqrt(p * (1 - p) / n), pair
    model = GMM(Space.continuous((1,)), GMM.Config(components=3))
    for _ in range(20):
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


KINDS: dict[Covariance, str] = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


@pytest.mark.parametrize("kind", KINDS)
def test_descent_starts_from_the_mixture_that_passes_start_from(kind: Covariance) -> None:
    """Kills: roots of another deviation than a third."""
    em, descent = (
        GMM(PLANE, GMM.Config(components=3, covariance=kind, fitting=fitting)) for fitting in ("em", "gradient")
    )
    x = torch.randn(20, 2)
    torch.testing.assert_close(em.log_prob(x), descent.log_prob(x))


def compact(kind: Covariance, theirs: numpy.ndarray) -> torch.Tensor:
    """scikit-learn's covariances in the shape of ours."""
    found = torch.from_numpy(theirs)
    return {"tied": found[None] if found.ndim == 2 else found, "spherical": found.reshape(-1, 1)}.get(kind, found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(300, 4), (1100, 80)])  # points in one product, and in two of 1024 and 76
def test_a_pass_and_the_densities_are_scikit_learns(kind: Covariance, n: int, d: int) -> None:
    """Kills: of each form, the mean outer product left out; the log-determinant of variances without a half; the
    pooled covariance of tied components by their number; a cross term without its 2.
    """
    x = (torch.randn(n, d) @ torch.randn(d, d) + 3 * torch.randn(3, d)[torch.arange(n) % 3]).double()
    model = GMM(Space.continuous((d,)), GMM.Config(components=3, covariance=kind, shrinkage=0.0, ridge=1e-6))
    model.start([(x, None)])
    inverse = model.covariances.inverse() if model.covariances.ndim == 3 else 1 / model.covariances
    precisions = {"tied": inverse[0], "spherical": inverse.reshape(-1)}.get(kind, inverse).numpy()
    start = {"weights_init": model.weights.numpy().copy(), "means_init": model.means.numpy().copy()}
    theirs = GaussianMixture(
        3, covariance_type=KINDS[kind], max_iter=1, reg_covar=1e-6, precisions_init=precisions, **start
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(x.numpy())
    loss = next(model.fit([(x, None)] if n > 1024 else [(x[:130], None), (x[130:], None)]))
    assert loss == pytest.approx(-theirs.lower_bound_, abs=1e-9, rel=1e-10)
    for ours, other in ((model.weights, theirs.weights_), (model.means, theirs.means_)):
        assert numpy.allclose(ours, other, atol=1e-9)
    assert torch.allclose(model.covariances, compact(kind, theirs.covariances_), atol=1e-9)
    assert numpy.allclose(model.log_prob(x), theirs.score_samples(x.numpy()), rtol=1e-6, atol=1e-4)  # float32


@pytest.mark.parametrize("kind", KINDS)
def test_no_pass_lowers_the_likelihood(kind: Covariance) -> None:
    """Without shrinkage, to the rounding of float64, on data that is no mixture of Gaussians."""
    x = torch.rand(400, 3).pow(3)
    model = GMM(Space.continuous((3,)), GMM.Config(components=5, covariance=kind, shrinkage=0.0, ridge=1e-9))
    losses = [loss for loss, _ in zip(model.fit([(x, None)]), range(60), strict=False)]
    assert len(losses) > 5
    assert all(b <= a + 1e-9 for a, b in pairwise(losses))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_mixture(kind: Covariance) -> None:
    """E x and E x x^T in closed form, from the covariances as full matrices. Kills: a variance in the place of its
    root.
    """
    model = GMM(Space.continuous((3,)), GMM.Config(components=2, covariance=kind))
    with torch.no_grad():
        model.covariances.copy_(positive(model.covariances))
        model.weights.copy_(torch.tensor([0.3, 0.7]))
        model.means.mul_(6)
    covariances = full(model)
    mean = model.weights @ model.means
    second = torch.einsum("k,kij->ij", model.weights, covariances + model.means[:, :, None] * model.means[:, None])
    n = 40_000
    x = model.sample(n, seed=1).double()
    products = x[:, :, None] * x[:, None]
    assert ((x.mean(0) - mean).abs() < 5 * x.std(0) / n**0.5).all()  # a false alarm in a million
    assert ((products.mean(0) - second).abs() < 5 * products.std(0) / n**0.5).all()


def positive(covariances: torch.Tensor) -> torch.Tensor:
    """Others of the same shape, positive definite."""
    noise = torch.randn_like(covariances)
    return noise @ noise.mT + 0.1 * torch.eye(3) if covariances.ndim == 3 else noise.square() + 0.1


def full(model: GMM) -> torch.Tensor:
    """The covariances as matrices, one a component."""
    k, d = model.means.shape
    found = model.covariances
    return found.expand(k, d, d) if found.ndim == 3 else found.expand(k, d).diag_embed()


# -- gradients


@pytest.mark.parametrize("kind", KINDS)
def test_descent_reaches_the_maximum_that_passes_reach(kind: Covariance) -> None:
    """From the same start region, one component, whose maximum is unique. Kills: a root's diagonal without its exp."""
    x = torch.randn(500, 2) @ torch.tensor([[1.0, 0.6], [0.0, 0.5]]) + torch.tensor([0.5, -0.3])
    passes = GMM(PLANE, GMM.Config(components=1, covariance=kind, ridge=1e-9))
    list(passes.fit([(x, None)]))
    model = GMM(PLANE, GMM.Config(components=1, covariance=kind, fitting="gradient"))
    assert (has(model, Trainable), has(model, Fittable)) == (True, False)
    assert (has(passes, Trainable), has(passes, Fittable)) == (False, True)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -model.gaussians.log_prob(x.double()).mean()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    assert torch.allclose(model.log_prob(x), passes.log_prob(x), atol=1e-3)


def test_weights_are_learnt_by_descent() -> None:
    """d/d logit_k of the mean log-likelihood is the mean of r_ik less pi_k. Kills: logits that are not normalised."""
    model = GMM(PLANE, GMM.Config(components=3, fitting="gradient"))
    x = torch.randn(50, 2)
    model.loss(x).mean().backward()
    r = model.gaussians.log_joint(x.double()).softmax(1)
    assert model.logits.grad is not None
    assert torch.allclose(model.logits.grad, 1 / 3 - r.mean(0), atol=1e-6)


# -- some dimensions given the others


def unequal(kind: Covariance) -> GMM:
    """Two components apart from each other, of unequal weights, in units of three kinds."""
    space = Space.continuous((3,), loc=(1.0, -1.0, 0.0), scale=(2.0, 0.5, 1.0))
    model = GMM(space, GMM.Config(components=2, covariance=kind))
    with torch.no_grad():
        model.covariances.copy_(positive(model.covariances))
        model.weights.copy_(torch.tensor([0.25, 0.75]))
        model.means.mul_(4)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_dimensions_given_the_others_follow_the_quotient_of_densities(kind: Covariance) -> None:
    """P(x_2 <= t | x_1, x_3) by the integral of the joint density along the line, against the share of draws.

    Kills: responsibilities of all dimensions or of none, a mean that is not moved by the observed part, the covariance
    that is not reduced by it, the weights left out.
    """
    model = unequal(kind)
    n = 20_000
    x = torch.tensor([1.7, math.nan, 0.4]).expand(n, 3)
    seen = torch.tensor([True, False, True])
    drawn = dgm.sample(model, n, given=x[:1], observed=seen, seed=3)
    assert torch.equal(drawn[:, [0, 2]], x[:, [0, 2]])
    line = torch.linspace(-12, 12, 4001)
    density = model.log_prob(torch.stack([x[0, 0].expand(4001), line, x[0, 2].expand(4001)], 1)).double().exp()
    cumulative = density.cumsum(0) / density.sum()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        t = line[(cumulative < share).sum()]
        below = (drawn[:, 1] <= t).double().mean()
        assert abs(float(below) - share) < 5 * 0.5 / n**0.5 + 2e-3  # and a step of the grid


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_observed_dimensions_is_the_integral_over_the_others(kind: Covariance) -> None:
    """By the trapezium rule in the units of the data. Kills: a marginal covariance of the roots' other product, the
    scale of a dimension that is not observed.
    """
    model = unequal(kind)
    x = torch.tensor([1.7, -0.8, 0.4]).expand(5, 3)
    observed = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
    found = model.log_prob_observed(x, observed).double()
    line = torch.linspace(-30, 30, 12_001)
    for k in range(3):
        points = x[0].repeat(len(line), 1)
        points[:, k] = line
        integral = torch.trapezoid(model.log_prob(points).double().exp(), line.double())
        assert found[k].item() == pytest.approx(integral.log().item(), abs=1e-4)
    assert found[3].item() == pytest.approx(model.log_prob(x)[0].item(), abs=1e-4)
    assert found[4] == 0


def test_each_row_has_its_own_missing_dimensions() -> None:
    """Row k depends on its own numbers, mask and stream alone; with nothing observed it follows the density."""
    model, _ = fitted(spots())
    x = spots(6)
    seen = torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0], [0, 1], [0, 0]]).bool()
    together = dgm.sample(model, 6, given=x, observed=seen, seed=5)
    assert torch.equal(together[seen], x[seen])
    fewer = dgm.sample(model, 3, given=x[:3], observed=seen[:3], seed=5)
    assert torch.equal(together[:3], fewer)
    free = dgm.sample(model, 4000, given=x[:1], observed=0, seed=7)
    other = dgm.sample(model, 4000, seed=8)
    error = 5 * (2 * float(model.log_prob(other).var()) / 4000) ** 0.5
    assert abs(float(model.log_prob(free).mean() - model.log_prob(other).mean())) < error


def test_what_is_given_keeps_its_bits() -> None:
    """Kills: values that were scaled and back, which rounds them."""
    space = Space.continuous((2,), loc=(0.3, 0.7), scale=(1.7, 0.1))
    model, x, seen = GMM(space, GMM.Config(components=2)), torch.randn(100, 2), torch.rand(100, 2) < 0.5
    assert torch.equal(model.impute(x, seen, seed=0)[seen], x[seen])
    assert not torch.equal(model.scaling.inverse(model.scaling(x)), x)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_draws_given_others_are_in_the_unit_of_the_data(unit: float) -> None:
    """Also of a covariance without full rank, whose ridge is a share of the largest variance."""
    means, roots = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, 4, dtype=torch.float64).tril()
    roots[:, -1] = roots[:, 0]  # the last dimension is the first one again
    z, seen = torch.randn(5, 4, dtype=torch.float64), torch.tensor([False, True, True, False]).expand(5, 4)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    found, scaled = (
        Gaussians(weights, c * means, c * roots).completed(c * z, seen, streams(5, 3, "cpu")) for c in (1.0, unit)
    )
    torch.testing.assert_close(scaled / unit, found)
    offset = found[:, 3] - found[:, 0]  # that of a component, within a few roots of the ridge
    assert (offset[:, None] - (means[:, 3] - means[:, 0])).abs().amin(1).max() < 1e-2


def test_a_picture_is_completed_from_its_first_rows() -> None:
    """Of grey levels, by the dequantised mixture; and what is refused."""
    model = dgm.create("gmm", Space.levels((1, 4, 4), 9), components=2)
    x = torch.randint(9, (3, 1, 4, 4)).to(torch.uint8)
    drawn = dgm.sample(model, 3, given=x, observed=8)
    assert torch.equal(drawn[:, :, :2], x[:, :, :2])
    assert drawn.dtype == torch.uint8
    assert (drawn[:, :, 2:] != x[:, :, 2:]).any()
    with pytest.raises(BadInput, match="both given and observed"):
        dgm.sample(model, 3, given=x)
    with pytest.raises(BadInput, match="observed must be bool of the shape"):
        dgm.sample(model, 3, given=x, observed=torch.ones(4))
    with pytest.raises(BadInput, match="expected 1 or 3 given examples, got 2"):
        dgm.sample(model, 3, given=x[:2], observed=8)
    with pytest.raises(Unsupported, match="cannot be given any part"):
        dgm.sample(dgm.create("made", model.space), 3, given=x, observed=torch.ones(1, 4, 4).bool())
