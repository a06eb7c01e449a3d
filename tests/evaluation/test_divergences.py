"""Divergences against the closed forms of normal distributions, identities and inequalities."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dgm.errors import BadInput
from dgm.evaluation.divergences import (
    FUNCTIONS,
    by_quadrature,
    classifier_bound,
    derivative,
    f_divergence,
    fisher_divergence,
    neighbour_kl,
    score_of,
)

GRID, CELL = torch.linspace(-40, 40, 20_001, dtype=torch.float64), 80 / 20_000


def normal(loc: float, scale: float) -> Normal:
    return Normal(torch.tensor(loc).double(), torch.tensor(scale).double())


P, Q = normal(0.3, 1.0), normal(-0.5, 1.4)


def log_ratio(x: Tensor) -> Tensor:
    return P.log_prob(x) - Q.log_prob(x)


def closed_forms() -> dict[str, float]:
    """Of P and Q; the total variation of normals of one variance, and Jensen-Shannon from its definition."""
    (a, s), (b, t) = (0.3, 1.0), (-0.5, 1.4)
    overlap = math.sqrt(2 * s * t / (s**2 + t**2)) * math.exp(-((a - b) ** 2) / (4 * (s**2 + t**2)))
    # E_q[(p/q)²] = ∫ p²/q, a Gaussian integral with precision 2/s² - 1/t²
    precision = 2 / s**2 - 1 / t**2
    exponent = 0.5 * (2 * a / s**2 - b / t**2) ** 2 / precision - a**2 / s**2 + b**2 / (2 * t**2)
    second = t / s**2 / math.sqrt(precision) * math.exp(exponent)
    mixture = (P.log_prob(GRID).exp() + Q.log_prob(GRID).exp()) / 2
    of_mixture = [(d.log_prob(GRID).exp() * (d.log_prob(GRID) - mixture.log())).nansum() * CELL for d in (P, Q)]
    # where the densities cross: a quadratic equation in x
    roots = torch.tensor([s**-2 - t**-2, -2 * (a / s**2 - b / t**2), a**2 / s**2 - b**2 / t**2 - 2 * math.log(t / s)])
    low, high = sorted(
        (-roots[1] + sign * (roots[1] ** 2 - 4 * roots[0] * roots[2]).sqrt()) / (2 * roots[0]) for sign in (-1, 1)
    )
    between = [norm.cdf(float(high), *d) - norm.cdf(float(low), *d) for d in ((a, s), (b, t))]
    return {
        "total_variation": abs(between[0] - between[1]),
        "kl": kl_divergence(P, Q).item(),
        "reverse_kl": kl_divergence(Q, P).item(),
        "jensen_shannon": float(sum(of_mixture)) / 2,
        "squared_hellinger": 1 - overlap,
        "chi_squared": second - 1,
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_quadrature_is_the_closed_form(name: str) -> None:
    found = by_quadrature(FUNCTIONS[name], P.log_prob(GRID), Q.log_prob(GRID), CELL).value.item()
    # |p - q| has kinks, where the error of the sum is of the order of the cell squared
    assert found == pytest.approx(closed_forms()[name], abs=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_with_known_densities_are_unbiased_with_the_stated_error(name: str) -> None:
    """400 estimates: their mean is the closed form and their spread the mean of the stated errors, within 5 of theirs.

    Kills: the error of one side alone, weights on one side alone, a missing 2.
    """
    estimates = [
        f_divergence(FUNCTIONS[name], log_ratio(P.sample((80,))), log_ratio(Q.sample((50,)))) for _ in range(400)
    ]
    values, errors = (torch.stack(column) for column in zip(*estimates, strict=True))
    assert abs(values.mean() - closed_forms()[name]) < 5 * values.std() / 20
    assert errors.square().mean().sqrt().item() == pytest.approx(values.std().item(), rel=5 / math.sqrt(800))


def test_divergences_of_far_distributions_reach_their_largest_values() -> None:
    """N(0, 1) and N(60, 1), where each density is 0 in float64 at the centre of the other."""
    far = normal(60.0, 1.0)
    grid = torch.linspace(-10, 70, 8001, dtype=torch.float64)
    p, q = normal(0.0, 1.0).log_prob(grid), far.log_prob(grid)
    found = {name: by_quadrature(FUNCTIONS[name], p, q, 0.01).value.item() for name in FUNCTIONS}
    assert found["total_variation"] == pytest.approx(1, abs=1e-9)
    assert found["jensen_shannon"] == pytest.approx(math.log(2), abs=1e-9)
    assert found["squared_hellinger"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_laws_on_finite_sets(name: str) -> None:
    """Zero of equal distributions, positive of others, the same after a permutation, smaller after merging states."""
    p, q = torch.randn(2, 50, 6, dtype=torch.float64).softmax(2)
    for a, b in zip(p, q, strict=True):
        value = by_quadrature(FUNCTIONS[name], a.log(), b.log()).value
        turn = torch.randperm(6)
        merged = [torch.cat([v[:4], v[4:].sum(0, keepdim=True)]).log() for v in (a, b)]
        assert by_quadrature(FUNCTIONS[name], a.log(), a.log()).value.abs() < 1e-12
        assert value > 0
        assert by_quadrature(FUNCTIONS[name], a[turn].log(), b[turn].log()).value.item() == pytest.approx(value.item())
        assert by_quadrature(FUNCTIONS[name], *merged).value <= value + 1e-12


def test_inequalities_between_divergences() -> None:
    """JS <= log 2 TV, Pinsker's TV² <= KL / 2, H² <= TV <= sqrt(2) H, KL <= log(1 + χ²); KL and its reverse swap."""
    for p, q in torch.randn(100, 2, 8, dtype=torch.float64).mul(2).log_softmax(2):
        found = {name: by_quadrature(FUNCTIONS[name], p, q).value.item() for name in FUNCTIONS}
        swapped = {name: by_quadrature(FUNCTIONS[name], q, p).value.item() for name in FUNCTIONS}
        tv, hellinger = found["total_variation"], found["squared_hellinger"]
        assert found["jensen_shannon"] <= math.log(2) * tv + 1e-12
        assert 2 * tv**2 <= min(found["kl"], found["reverse_kl"]) + 1e-12
        assert hellinger <= tv <= math.sqrt(2 * hellinger)
        assert found["kl"] <= math.log1p(found["chi_squared"]) + 1e-12
        assert found["kl"] == pytest.approx(swapped["reverse_kl"])
        for name in ("total_variation", "jensen_shannon", "squared_hellinger"):
            assert found[name] == pytest.approx(swapped[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_classifiers_bound_is_tight_at_the_true_ratio_and_below_elsewhere(name: str) -> None:
    """In expectation, by a sum over a grid: weights stand for the samples."""
    p, q, true = P.log_prob(GRID), Q.log_prob(GRID), closed_forms()[name]
    at = (GRID.abs() < 8).nonzero()[:, 0]

    def expected(r: Tensor) -> float:
        slope, u = derivative(FUNCTIONS[name], r[at])
        weights = p[at].exp() * slope - q[at].exp() * (u * slope - FUNCTIONS[name](u))
        return float(weights.sum() * CELL)

    # beyond the 8 of the grid lie 1e-9 of the mass; total variation has kinks
    assert expected(p - q) == pytest.approx(true, abs=2e-3 if name == "total_variation" else 1e-5)
    for other in (p - q + 0.4, 0.5 * (p - q), torch.zeros_like(p)):
        assert expected(other) < true


def test_the_bound_of_samples_is_the_mean_difference() -> None:
    """KL: E_p[r] + 1 - E_q[e^r], with the error of two independent means."""
    r, s = torch.randn(40, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    found = classifier_bound(FUNCTIONS["kl"], r, s)
    assert found.value.item() == pytest.approx((r.mean() + 1 - s.exp().mean()).item())
    assert found.error.item() == pytest.approx((r.var() / 40 + s.exp().var() / 30).sqrt().item())


@pytest.mark.parametrize(("dim", "k"), [(1, 1), (3, 5)])
def test_neighbours_estimate_the_kl_of_normals(dim: int, k: int) -> None:
    """Kills: squared distances for distances, x's neighbours including itself, a swapped ratio."""
    p = MultivariateNormal(torch.zeros(dim).double(), torch.eye(dim).double())
    q = MultivariateNormal(torch.full((dim,), 0.7).double(), 1.5**2 * torch.eye(dim).double())
    draws = torch.stack([neighbour_kl(p.sample((300,)), q.sample((400,)), k) for _ in range(40)])
    # five standard errors, and a bias of 0.02, which falls with n
    assert abs(draws.mean() - kl_divergence(p, q)) < 5 * draws.std() / math.sqrt(40) + 0.02


def test_neighbours_of_three_points_by_hand() -> None:
    """1 log (1/2) + log (3 / 2) of distances 1, 1, 2 among x and 1/2, 1/2, 1 to y. Kills: n for n - 1, m for n."""
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.0], [7.0]])
    assert neighbour_kl(x, y, 1).item() == pytest.approx(math.log(1 / 2) + math.log(3 / 2))
    assert neighbour_kl(x, torch.cat([y, y + 20]), 1).item() == pytest.approx(math.log(1 / 2) + math.log(6 / 2))


def test_neighbours_of_few_points_are_unbiased_between_equal_distributions() -> None:
    """Uniform on a circle, where no ball meets a boundary: of 6 points, n for n - 1 would add log(5 / 6) = -0.18."""
    angles = 2 * math.pi * torch.rand(1000, 2, 6, dtype=torch.float64)
    points = torch.stack([angles.cos(), angles.sin()], 3)
    draws = torch.stack([neighbour_kl(x, y, 1) / 2 + math.log(6 / 5) / 2 for x, y in points])  # of one dimension, not 2
    assert abs(draws.mean()) < 4 * draws.std() / math.sqrt(1000)


def test_neighbours_do_not_depend_on_an_affine_map() -> None:
    x, y = torch.randn(60, 3, dtype=torch.float64), torch.randn(60, 3, dtype=torch.float64) + 1
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0] * 7
    assert neighbour_kl(x @ turn + 3, y @ turn + 3).item() == pytest.approx(neighbour_kl(x, y).item(), rel=1e-9)


def test_equal_examples_and_too_few_are_refused() -> None:
    x = torch.randint(0, 2, (40, 2)).double()
    with pytest.raises(BadInput, match="the data has no density"):
        neighbour_kl(x, x)
    with pytest.raises(BadInput, match="more than 5 examples, got 5 and 9"):
        neighbour_kl(torch.randn(5, 2), torch.randn(9, 2))


def test_fishers_divergence_of_normals() -> None:
    """Of N(0, I) and N(c, s² I): E |x (1 - 1/s²) + c/s²|² = D (1 - 1/s²)² + |c|² / s⁴."""
    x = torch.randn(40_000, 3, dtype=torch.float64)
    p, q = normal(0.0, 1.0), normal(0.5, 2.0)
    scores = [score_of(lambda v, d=d: d.log_prob(v).sum(1), x) for d in (p, q)]
    torch.testing.assert_close(scores[1], -(x - 0.5) / 4)
    found = fisher_divergence(*scores)
    assert abs(found.value - (3 * 0.75**2 + 3 * 0.25 / 16)) < 4 * found.error
    assert found.error.item() == pytest.approx((scores[0] - scores[1]).square().sum(1).std().item() / 200)
    assert fisher_divergence(scores[0], scores[0]).value == 0


@pytest.mark.parametrize(("name", "value"), [("total_variation", 0.25), ("jensen_shannon", None), ("kl", math.inf)])
def test_a_density_of_zero_is_infinite_where_the_divergence_has_no_bound(name: str, value: float | None) -> None:
    """(3/4, 1/4) beside (1, 0): the Kullback-Leibler divergence is infinite, its reverse is -log(3/4)."""
    p, q = torch.tensor([0.75, 0.25]).log(), torch.tensor([1.0, 0.0]).log()
    expected = (
        (0.75 * math.log(0.75 / 0.875) + 0.25 * math.log(2) + math.log(1 / 0.875)) / 2 if value is None else value
    )
    assert by_quadrature(FUNCTIONS[name], p, q).value.item() == pytest.approx(expected)
    assert by_quadrature(FUNCTIONS["reverse_kl"], p, q).value.item() == pytest.approx(-math.log(0.75))
    assert by_quadrature(FUNCTIONS["reverse_kl"], q, p).value == math.inf
    assert f_divergence(FUNCTIONS["kl"], torch.tensor([0.1, math.inf]), torch.tensor([0.1, 0.2])).value == math.inf
