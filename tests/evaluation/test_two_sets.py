"""Kernels, transport and the classifier between two sets, against closed forms, scikit-learn and scipy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import binom, wasserstein_distance, wasserstein_distance_nd
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation import two_sample
from dgm.evaluation.divergences import FUNCTIONS, classifier_bound
from dgm.evaluation.frechet import frechet_distance
from dgm.evaluation.kernel import KERNELS, kernel_distance, median_distance, minus_distance, mmd, permutation_p
from dgm.evaluation.transport import sliced_wasserstein, wasserstein
from dgm.evaluation.two_sample import held_out_log_ratios, two_sample_test


def draws(n: int = 60, m: int = 50, shift: float = 0.5, d: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(n, d, dtype=torch.float64), torch.randn(m, d, dtype=torch.float64) * 1.3 + shift


def test_kernels_are_scikit_learns_and_their_formulas() -> None:
    x, y = draws()
    r = torch.cdist(x, y)
    found = {name: make(1.7)(x, y) for name, make in KERNELS.items()}
    torch.testing.assert_close(found["gaussian"], torch.from_numpy(rbf_kernel(x, y, gamma=1 / (2 * 1.7**2))))
    torch.testing.assert_close(found["cubic"], torch.from_numpy(polynomial_kernel(x, y, gamma=1 / 4, coef0=1)))
    torch.testing.assert_close(found["laplace"], (-r / 1.7).exp())
    torch.testing.assert_close(found["inverse_multiquadric"], 1 / (1 + r**2 / 1.7**2).sqrt())


@pytest.mark.parametrize("name", KERNELS)
def test_mmd_is_its_three_means_and_does_not_depend_on_a_rotation(name: str) -> None:
    x, y = draws()
    kernel = KERNELS[name](2.0)
    off = [kernel(v, v).masked_fill(torch.eye(len(v)) > 0, 0).sum() / (len(v) * (len(v) - 1)) for v in (x, y)]
    expected = sum(off) - 2 * kernel(x, y).mean()
    assert mmd(x, y, kernel).item() == pytest.approx(float(expected), rel=1e-9)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    assert mmd(x @ turn, y @ turn, kernel).item() == pytest.approx(float(expected), rel=1e-7)


def test_gaussian_mmd_of_normals() -> None:
    """E k of N(0, 1) and N(c, 1) with bandwidth h: h / sqrt(h² + 2) exp(-c² / (2 (h² + 2)))."""
    h, c = 1.2, 0.8
    found = torch.stack([mmd(torch.randn(50, 1), torch.randn(50, 1) + c, KERNELS["gaussian"](h)) for _ in range(300)])
    expected = 2 * h / math.sqrt(h**2 + 2) * (1 - math.exp(-(c**2) / (2 * (h**2 + 2))))
    assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(300)


def test_energy_distance_is_twice_the_integral_of_the_squared_difference_of_cdfs() -> None:
    """Székely & Rizzo's identity in one dimension, of the biased statistic: all pairs, with those of a point itself."""
    x, y = torch.randn(30, 1, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64) + 0.7
    grid = torch.cat([x, y]).flatten().sort().values
    cdfs = [(v.flatten()[:, None] <= grid[:-1]).double().mean(0) for v in (x, y)]
    integral = ((cdfs[0] - cdfs[1]).square() * grid.diff()).sum()
    correction = sum((torch.cdist(v, v).sum() / len(v) * (1 / len(v) - 1 / (len(v) - 1))) for v in (x, y))
    assert mmd(x, y, minus_distance).item() == pytest.approx((2 * integral + correction).item(), rel=1e-9)


def test_the_bandwidth_is_the_median_distance() -> None:
    assert median_distance(torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx(2)
    assert median_distance(torch.zeros(5, 2)) == 1


def test_permutations_of_four_points_by_hand() -> None:
    """Of {0, 1} and {10, 11} two of the six relabellings have the observed discrepancy, the others less."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [11.0]])
    values = [
        mmd(torch.cat([x, y])[list(rows)], torch.cat([x, y])[[k for k in range(4) if k not in rows]], minus_distance)
        for rows in itertools.combinations(range(4), 2)
    ]
    assert sum(value >= values[0] - 1e-9 for value in values) == 2
    found = permutation_p(x, y, minus_distance, permutations=3000)
    assert found == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 3000))


def test_permutations_of_sets_of_different_sizes_are_compared_by_their_discrepancy() -> None:
    """Of the relabellings of two and four points on a line as many as `mmd` says are as far apart."""
    points = torch.tensor([[0.0], [3.0], [1.0], [2.0], [5.0], [9.0]])
    values = [
        mmd(points[list(rows)], points[[k for k in range(6) if k not in rows]], minus_distance)
        for rows in itertools.combinations(range(6), 2)
    ]
    share = sum(float(value >= values[0] - 1e-9) for value in values) / 15
    found = permutation_p(points[:2], points[2:], minus_distance, permutations=3000)
    assert found == pytest.approx(share, abs=5 * math.sqrt(0.25 / 3000))


@pytest.mark.parametrize("name", ["gaussian", "energy"])
def test_the_permutation_test_keeps_its_level_and_finds_a_shift(name: str) -> None:
    kernel = KERNELS[name](2.0)
    p = [permutation_p(*(torch.randn(2, 20, 3)), kernel, permutations=39, seed=k) for k in range(200)]
    # uniform on 1/40 … 1, so that a tenth lie at or below 0.1, give or take four standard errors
    assert sum(value <= 0.1 for value in p) / 200 == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 200))
    assert permutation_p(torch.randn(40, 3), torch.randn(30, 3) + 2, kernel, permutations=99) == 0.01


@pytest.mark.parametrize("p", [1, 2])
def test_exact_transport_is_scipys_and_the_best_of_all_permutations(p: int) -> None:
    x, y = draws(6, 6, d=2)
    best = min(float((x - y[list(turn)]).norm(dim=1).pow(p).mean()) for turn in itertools.permutations(range(6)))
    assert wasserstein(x, y, p).item() == pytest.approx(best ** (1 / p))
    if p == 1:
        assert wasserstein(x, y, 1).item() == pytest.approx(wasserstein_distance_nd(x.numpy(), y.numpy()))


def test_distances_of_a_translation() -> None:
    """W_2 is |c|, and the squares of its projections average to |c|² / D, up to four errors of 500 directions."""
    x, c = torch.randn(80, 3, dtype=torch.float64), torch.tensor([1.0, -2.0, 2.0])
    assert wasserstein(x, (x + c)[torch.randperm(80)]).item() == pytest.approx(3)
    # cos² of a random direction in three dimensions has mean 1/3 and variance 4/45
    squared = sliced_wasserstein(x, x + c).item() ** 2
    assert squared == pytest.approx(3, abs=4 * 9 * math.sqrt(4 / 45 / 500))


def test_sliced_distance_in_one_dimension_is_the_exact_one() -> None:
    x, y = draws(70, 70, d=1)
    assert sliced_wasserstein(x, y, 1).item() == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))
    assert sliced_wasserstein(x, y).item() == pytest.approx(wasserstein(x, y).item())


def test_transport_is_above_the_frechet_distance_of_its_moments() -> None:
    """Gelbrich's bound, equal for an affine map with a symmetric positive matrix; and SW² <= W² / D."""
    x, y = draws(90, 90)
    moments = frechet_distance(x, y) - (frechet_distance(x, y) - (x.mean(0) - y.mean(0)).square().sum()) / 90
    assert wasserstein(x, y).square() > moments  # of covariances that divide by N
    assert sliced_wasserstein(x, y).square() < wasserstein(x, y).square() / 4
    root = torch.randn(4, 4, dtype=torch.float64)
    mapped = x @ (root @ root.mT) + 1
    of_mapped = frechet_distance(x, mapped)
    expected = of_mapped - (of_mapped - (x.mean(0) - mapped.mean(0)).square().sum()) / 90
    assert wasserstein(x, mapped).square().item() == pytest.approx(expected.item(), rel=1e-6)


def test_sizes_are_checked() -> None:
    with pytest.raises(BadInput, match=r"two sets of as many points of one length, got \(3, 2\) and \(4, 2\)"):
        wasserstein(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(BadInput, match="at most 2,000 points, got 2,001"):
        wasserstein(torch.zeros(2001, 1), torch.zeros(2001, 1))
    with pytest.raises(BadInput, match="at least 40 each, got 39 and 39"):
        held_out_log_ratios(torch.zeros(39, 1), torch.zeros(39, 1))
    with pytest.raises(BadInput, match="two sets of at least 2, got 1 and 5"):
        kernel_distance(torch.zeros(1, 2), torch.zeros(5, 2))


def test_the_classifier_learns_the_ratio_of_normals() -> None:
    """N(0, I) and N(c, I): the best accuracy is Phi(|c| / 2), and the bound of the KL is close to |c|² / 2."""
    x, y = torch.randn(1500, 2), torch.randn(1500, 2) + torch.tensor([1.5, 0.0])
    at_x, at_y = held_out_log_ratios(x, y)
    found = two_sample_test(at_x, at_y)
    best = 0.5 * (1 + math.erf(0.75 / math.sqrt(2)))
    assert found.n == 1500
    assert found.low < best < found.high + 0.02  # it learns from 1,500, and errs by up to 2 % more than the best
    bound = classifier_bound(FUNCTIONS["kl"], at_x, at_y)
    assert 1.125 - 5 * bound.error - 0.15 < bound.value < 1.125 + 4 * bound.error
    same = two_sample_test(*held_out_log_ratios(x, torch.randn(1500, 2)))
    assert same.low < 0.5


def test_no_log_ratio_is_above_the_log_of_the_number_of_training_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are half of both sets together. Kills: half of one set."""
    monkeypatch.setattr(two_sample, "log_odds", lambda classifier, x: torch.tensor([math.inf, -math.inf, 1.0]))
    for found in held_out_log_ratios(torch.randn(40, 1), torch.randn(40, 1)):
        assert found.tolist() == pytest.approx([math.log(40), -math.log(40), 1])


def test_the_interval_and_the_p_value_are_binomial() -> None:
    found = two_sample_test(torch.tensor([1.0] * 14 + [-1.0] * 6), torch.tensor([-1.0] * 12 + [1.0] * 8))
    assert found.accuracy == 26 / 40
    assert found.p == pytest.approx(binom.sf(25, 40, 0.5))
    assert binom.sf(25, 40, found.low) == pytest.approx(0.025)
    assert binom.cdf(26, 40, found.high) == pytest.approx(0.025)
    undecided = two_sample_test(torch.zeros(4), torch.zeros(6))  # a log-ratio of 0 is no reason to say x
    assert undecided.accuracy == 6 / 10


def test_total_variations_bound_is_the_accuracy() -> None:
    """2 accuracy - 1, as f' is the sign of the log-ratio over 2."""
    at_x, at_y = torch.randn(30) + 0.5, torch.randn(30) - 0.5
    bound = classifier_bound(FUNCTIONS["total_variation"], at_x, at_y).value.item()
    assert bound == pytest.approx(2 * two_sample_test(at_x, at_y).accuracy - 1)
