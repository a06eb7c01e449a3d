"""Distances and counts against closed forms, scipy, torchmetrics and prdc."""

from __future__ import annotations

import math

import numpy
import pytest
import scipy.linalg
import torch
from prdc import compute_prdc
from torchmetrics.image.kid import poly_mmd

from dgm.data import order
from dgm.evaluation.distances import scores
from dgm.evaluation.frechet import frechet_distance
from dgm.evaluation.jackknife import folds
from dgm.evaluation.kernel import cubic, kernel_distance, kernel_distance_of_parts
from dgm.evaluation.neighbours import memorised, nearest, precision_recall_density_coverage
from dgm.evaluation.score import inception_score


def by_scipy(x: torch.Tensor, y: torch.Tensor) -> float:
    a, b = (numpy.cov(v.double().numpy(), rowvar=False) for v in (x, y))
    root = scipy.linalg.sqrtm(a @ b).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + numpy.trace(a + b - 2 * root))


@pytest.mark.parametrize(("n", "m", "d"), [(500, 700, 8), (60, 50, 40), (700, 640, 600), (20, 25, 64)])
def test_frechet_is_scipys(n: int, m: int, d: int) -> None:
    mix = torch.randn(d, d, dtype=torch.float64)
    x, y = torch.randn(n, d, dtype=torch.float64) @ mix, torch.randn(m, d, dtype=torch.float64) * 2 + 1
    expected = by_scipy(x, y)
    # below D rows sqrtm works on a singular product, and its own error is the larger
    assert frechet_distance(x, y).item() == pytest.approx(expected, rel=1e-6 if min(n, m) > d else 1e-4)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    """Whitened samples have exactly these moments; the distance is the closed form of the two normals."""
    raw = torch.randn(2000, 2, dtype=torch.float64)
    white = (raw - raw.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(raw.T.cov())).T
    a = torch.tensor([[2.0, 0.0], [1.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0], [-0.7, 0.5]], dtype=torch.float64)
    root = scipy.linalg.sqrtm((a @ a.T @ b @ b.T).numpy()).real
    expected = 9 + numpy.trace((a @ a.T + b @ b.T).numpy() - 2 * root)
    x, y = white @ a.T, white @ b.T + torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert frechet_distance(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_frechet_laws() -> None:
    x, y = torch.randn(300, 6, dtype=torch.float64), torch.randn(300, 6, dtype=torch.float64) * 1.5
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert frechet_distance(x, x).item() == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y).item() == pytest.approx(frechet_distance(y, x).item(), rel=1e-9)
    assert frechet_distance(x @ turn, y @ turn).item() == pytest.approx(frechet_distance(x, y).item(), rel=1e-9)
    constant = torch.cat([x, torch.ones(300, 1)], 1)  # a feature that never changes makes the covariance singular
    moved = torch.cat([y, torch.ones(300, 1)], 1)
    assert frechet_distance(constant, moved).item() == pytest.approx(frechet_distance(x, y).item(), rel=1e-7)


def test_kernel_is_torchmetrics() -> None:
    x, y = torch.randn(120, 5, dtype=torch.float64), torch.randn(120, 5, dtype=torch.float64) + 0.3
    kernels = [(a @ b.T / 5 + 1) ** 3 for a, b in ((x, x), (x, y), (y, y))]
    from torchmetrics.image.kid import maximum_mean_discrepancy

    assert kernel_distance(x, y).item() == pytest.approx(maximum_mean_discrepancy(*kernels).item(), rel=1e-9)
    assert poly_mmd(x, y).item() == pytest.approx(kernel_distance(x, y).item(), rel=1e-6)


def test_kernel_is_unbiased_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.stack([kernel_distance(torch.randn(40, 3), torch.randn(30, 3)) for _ in range(300)])
    assert abs(draws.mean()) < 4 * draws.std() / math.sqrt(300)
    x, y = torch.randn(50, 3), torch.randn(41, 3)
    whole = kernel_distance(x, y).item()
    monkeypatch.setattr("dgm.evaluation.kernel.BLOCK", 7)
    assert kernel_distance(x, y).item() == pytest.approx(whole, rel=1e-9)
    assert kernel_distance_of_parts(x, y, 1).item() == pytest.approx(whole, rel=1e-3)


def test_the_kernel_distance_of_parts_is_their_mean() -> None:
    x, y = torch.randn(60, 5, dtype=torch.float64), torch.randn(47, 5, dtype=torch.float64) + 0.3
    one = kernel_distance_of_parts(x, y, 1).item()
    assert one == pytest.approx(kernel_distance(x, y).item(), rel=1e-9)
    assert kernel_distance_of_parts(x.float(), y.float(), 1).item() == pytest.approx(one, rel=1e-4)
    a, b = x[order(60, 3, 0)], y[order(47, 3, 1)]
    expected = (kernel_distance(a[::2], b[::2]) + kernel_distance(a[1::2], b[1::2])) / 2
    assert kernel_distance_of_parts(x, y, 2, seed=3).item() == pytest.approx(expected.item(), rel=1e-9)


def test_two_halves_have_the_variance_of_the_papers_subsets() -> None:
    """100 subsets of a tenth of N: both have twice the variance of all pairs, within four errors of a ratio of 400."""
    halves, subsets = [], []
    for _ in range(400):
        x, y = torch.randn(2, 100, 3)
        halves.append(kernel_distance_of_parts(x, y, 2))
        i, j = torch.rand(2, 100, 100).argsort(2)[:, :, :10]  # (subsets, rows)
        xx, yy = (cubic(v, v).fill_diagonal_(0)[k[:, :, None], k[:, None]].sum() for v, k in ((x, i), (y, j)))
        subsets.append((xx + yy) / 9000 - 2 * cubic(x, y)[i[:, :, None], j[:, None]].mean())
    ratio = torch.stack(halves).var() / torch.stack(subsets).var()
    assert ratio.log().abs() < 4 * math.sqrt(4 / 400)


def test_prdc_is_prdcs_with_each_papers_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgm.evaluation.neighbours.BLOCK", 33)
    x, y = torch.randn(150, 4), torch.randn(170, 4) * 0.8 + 0.4
    third, fifth = (compute_prdc(x.double().numpy(), y.double().numpy(), nearest_k=k) for k in (3, 5))
    expected = {name: (third if name in ("precision", "recall") else fifth)[name] for name in third}
    assert third != fifth
    found = precision_recall_density_coverage(x, y)._asdict()
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=1e-12)


def test_score_is_the_product_of_its_factors() -> None:
    log_p = torch.randn(400, 10).log_softmax(1)
    found = inception_score(log_p)
    p = log_p.double().exp()
    direct = (p * (log_p - p.mean(0).log())).sum(1).mean().exp()
    assert found.score.item() == pytest.approx(direct.item(), rel=1e-6)
    assert found.score.item() == pytest.approx((found.sharpness * found.diversity).item(), rel=1e-9)


def test_the_score_of_folds_is_that_of_all_and_without_each_fold_of_samples() -> None:
    """It does not depend on real examples, which have no part in its interval."""
    log_p, real = torch.randn(60, 4).log_softmax(1), torch.randn(50, 2)
    found = scores(folds(real), folds(log_p))
    assert found.value.tolist() == pytest.approx([float(part) for part in inception_score(log_p)])
    assert (found.real.shape, found.generated.shape) == ((0, 3), (10, 3))
    kept = torch.cat(folds(log_p)[1:])
    assert found.generated[0].tolist() == pytest.approx([float(part) for part in inception_score(kept)])


@pytest.mark.parametrize(("classes", "expected"), [(10, 10), (1, 1), (4, 4)])
def test_score_of_a_sure_classifier_counts_the_classes(classes: int, expected: float) -> None:
    certain = torch.full((200, 10), -1e4)
    certain[torch.arange(200), torch.arange(200) % classes] = 0
    found = inception_score(certain)
    assert found.score.item() == pytest.approx(expected)
    assert found.sharpness.item() == pytest.approx(1)


def test_planted_copies_are_found_and_nothing_else() -> None:
    training = torch.randn(300, 6)
    fresh = torch.randn(50, 6)
    near = training[5:15] + 1e-3
    found = memorised(training, torch.cat([fresh, training[20:30], near]))
    assert found.exact == pytest.approx(10 / 70)
    assert found.share == pytest.approx(20 / 70)
    assert found.nearest[50:].tolist() == [*range(20, 30), *range(5, 15)]


def test_nearest_is_the_brute_force() -> None:
    a, b = torch.randn(20, 3, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    squared, index = nearest(a, b, 3)
    expected = torch.cdist(a, b).sort(1)
    assert torch.allclose(squared.sqrt(), expected.values[:, :3], atol=1e-7)
    assert torch.equal(index, expected.indices[:, :3])


def test_a_copy_is_nearer_than_a_third_of_the_way_to_the_next_example() -> None:
    """Of training examples 3 apart, and one 30 away. Kills: squares for distances, another example's spacing."""
    training = torch.tensor([[0.0, 0.0], [3.0, 0.0], [33.0, 0.0]])
    samples = torch.tensor([[0.98, 0.0], [1.02, 0.0], [42.0, 0.0], [44.0, 0.0], [3.0, 0.0]])
    found = memorised(training, samples)
    assert found.nearest.tolist() == [0, 0, 2, 2, 1]
    torch.testing.assert_close(found.distance, torch.tensor([0.98, 1.02, 9, 11, 0]).double(), rtol=0, atol=1e-5)
    assert found.share == pytest.approx(3 / 5)
    assert found.exact == pytest.approx(1 / 5)
    assert memorised(training, samples, threshold=0.5).share == 1
    assert found.authenticity == 0
    beyond = torch.tensor([[-2.9, 0.0], [-3.1, 0.0], [62.0, 0.0], [64.0, 0.0]])
    assert memorised(training, beyond).authenticity == 1 / 2


def test_frechet_of_features_far_from_zero_keeps_its_digits() -> None:
    """Means of 1e7 standard deviations: x^T x - n mu mu^T has no digit left, the centred rows have all."""
    x, y = torch.randn(400, 3, dtype=torch.float64), 2 * torch.randn(300, 3, dtype=torch.float64)
    moved = frechet_distance(x + 1e7, y + 1e7)
    assert moved.item() == pytest.approx(frechet_distance(x, y).item(), rel=1e-6)


def test_a_point_on_the_edge_of_a_ball_is_outside() -> None:
    """Six of each point, so that every radius is 0; of whole numbers, whose distances are exact."""
    x = torch.randint(-9, 9, (20, 3)).double().repeat(6, 1)
    assert [float(value) for value in precision_recall_density_coverage(x, x)] == [0, 0, 0, 0]
    line, far = torch.arange(12.0)[:, None].double(), 100 * torch.arange(12)[:, None].double()
    for first, inside in ((13, 1), (14, 0)):  # the last point's third neighbour is 3 away, all others' are nearer
        assert precision_recall_density_coverage(line, far + first).precision == inside / 12
