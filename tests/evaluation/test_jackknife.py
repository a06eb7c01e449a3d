"""Intervals: the sums by fold are the plain computation, and the true value is inside 95 times of 100."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from dgm.data import order
from dgm.errors import BadInput
from dgm.evaluation import distances, jackknife
from dgm.evaluation.frechet import frechet_and_infinity, frechet_distance, frechet_infinity
from dgm.evaluation.jackknife import Folds, LeftOut, folds, half_width, left_out, left_out_in_pairs
from dgm.evaluation.kernel import kernel_distance, kernel_left_out
from dgm.evaluation.neighbours import coverage_left_out, precision_recall_density_coverage

Plain = Callable[[Tensor, Tensor], Tensor]


def by_hand(measure: Plain, x: Tensor, y: Tensor) -> LeftOut:
    """The measure computed anew on what is left of N rows, when every tenth of them in the folds' order is left out."""
    x, y = x[order(len(x), jackknife.SEED, 0)], y[order(len(y), jackknife.SEED, 0)]
    keeps = [(torch.arange(len(v)) % 10 != torch.arange(10)[:, None]) for v in (x, y)]
    return LeftOut(
        measure(x, y),
        torch.stack([measure(x[keep], y) for keep in keeps[0]]),
        torch.stack([measure(x, y[keep]) for keep in keeps[1]]),
    )


@pytest.mark.parametrize("sizes", [(127, 113), (100, 60)])
@pytest.mark.parametrize(
    ("fast", "plain"),
    [
        (kernel_left_out, lambda x, y: kernel_distance(x, y)[None]),
        (coverage_left_out, lambda x, y: torch.stack(precision_recall_density_coverage(x, y))),
        (
            lambda x, y: left_out(lambda a, b: frechet_distance(torch.cat(list(a)), torch.cat(list(b)))[None], x, y),
            lambda x, y: frechet_distance(x, y)[None],
        ),
    ],
)
def test_sums_by_fold_are_the_plain_computation(
    fast: Callable[[Folds, Folds], LeftOut], plain: Plain, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgm.evaluation.kernel.BLOCK", 11)
    monkeypatch.setattr("dgm.evaluation.neighbours.BLOCK", 33)
    x, y = torch.randn(sizes[0], 4, dtype=torch.float64), torch.randn(sizes[1], 4, dtype=torch.float64) * 0.8 + 0.4
    for found, expected in zip(fast(folds(x), folds(y)), by_hand(plain, x, y), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_duplicates_count_as_neighbours_and_oneself_does_not() -> None:
    """Six of each point: the fifth neighbour is at distance 0, and nothing is strictly nearer."""
    x = torch.randn(20, 3).repeat(6, 1)
    y = torch.randn(100, 3)
    found = coverage_left_out(folds(x), folds(y))
    assert found.value[2:].tolist() == [0, 0]


def test_too_few_neighbours_are_refused() -> None:
    with pytest.raises(BadInput, match="more than 5 real examples when a fold is left out, got 5"):
        coverage_left_out(folds(torch.randn(6, 2)), folds(torch.randn(30, 2)))
    with pytest.raises(BadInput, match="more than 5 samples"):
        precision_recall_density_coverage(torch.randn(30, 2), torch.randn(5, 2))


def test_the_jackknife_of_a_difference_of_means_is_its_standard_error() -> None:
    """Var(mean x - mean y) = var x / n + var y / m, in expectation over draws."""
    ratios = []
    for _ in range(100):
        x, y = torch.randn(300, dtype=torch.float64), 2 * torch.randn(200, dtype=torch.float64)
        found = left_out(lambda a, b: torch.cat(list(a)).mean()[None] - torch.cat(list(b)).mean(), folds(x), folds(y))
        variances = sum((len(s) - 1) / len(s) * (s - s.mean(0)).square().sum() for s in found[1:])
        ratios.append(float(variances) / (1 / 300 + 4 / 200))
    assert sum(ratios) / 100 == pytest.approx(1, abs=4 * 0.33 / 10)  # a chi-squared of 15 degrees of freedom, over it


def test_students_quantile_has_satterthwaites_degrees_of_freedom() -> None:
    """Of one side alone 9; of two sides with equal variances 18."""
    side = torch.arange(10.0, dtype=torch.float64)[:, None]
    error = math.sqrt(0.9 * 82.5)
    one = half_width(LeftOut(torch.zeros(1), side[:0], side))
    both = half_width(LeftOut(torch.zeros(1), side, side))
    assert one.item() == pytest.approx(2.262157 * error, rel=1e-6)
    assert both.item() == pytest.approx(2.100922 * error * math.sqrt(2), rel=1e-6)
    unequal = half_width(LeftOut(torch.zeros(1), side[:5], side))  # variances of 4/5 · 10 and of 9/10 · 82.5
    a, b = 0.8 * 10, 0.9 * 82.5
    quantile = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 4 + b**2 / 9))
    assert unequal.item() == pytest.approx(quantile * math.sqrt(a + b), rel=1e-6)
    assert half_width(LeftOut(torch.zeros(1), side[:0], 0 * side)).item() == 0
    # a measure that needs every fold has no interval, and none of width 0
    assert half_width(LeftOut(torch.zeros(1), side[:0], torch.full_like(side, torch.nan))).isnan().item()


def draws(n: int, m: int, shift: float, scale: float, d: int = 8) -> tuple[list[Tensor], list[Tensor]]:
    x = torch.randn(n, d, dtype=torch.float64)
    return folds(x), folds(torch.randn(m, d, dtype=torch.float64) * scale + shift)


def cubic(shift: float, scale: float, d: int = 8) -> float:
    """MMD² of N(0, I) and N(shift, scale² I): the kernel is a polynomial, so that it is of moments.

    E (a·b/d + 1)³ = 1 + 3 E(a·b)/d + 3 E(a·b)²/d² + E(a·b)³/d³, and given a, a·b ~ N(m Σa, s² |a|²).
    """

    def mean(one: tuple[float, float], two: tuple[float, float]) -> float:
        (m1, s1), (m2, s2) = one, two
        # s = Σ a_i and q = |a|² of a ~ N(m1, s1² I): their moments
        s, q = d * m1, d * (m1**2 + s1**2)
        ss = s**2 + d * s1**2
        sss = s**3 + 3 * s * d * s1**2
        sq = s * q + 2 * d * m1 * s1**2
        return 1 + 3 * m2 * s / d + 3 * (m2**2 * ss + s2**2 * q) / d**2 + (m2**3 * sss + 3 * m2 * s2**2 * sq) / d**3

    x, y = (0.0, 1.0), (shift, scale)
    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize(
    ("measure", "truth", "count"),
    [
        pytest.param(kernel_left_out, "cubic", 200, id="kernel"),
        pytest.param(
            lambda x, y: LeftOut(*(part[..., 1:] for part in left_out(frechet_and_infinity, x, y))),
            "frechet",
            150,
            id="frechet",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_interval_covers_the_true_value(measure: Callable[..., LeftOut], truth: str, count: int) -> None:
    """Between 90 and 99.5 %: 95 %, give or take three standard errors of a share of so many."""
    inside, true = 0, cubic(0.3, 1.2) if truth == "cubic" else 8 * (0.3**2 + 0.2**2)
    for _ in range(count):
        found = measure(*draws(150, 120, 0.3, 1.2))
        inside += bool((found.value - true).abs() <= half_width(found))
    assert 0.90 <= inside / count <= 0.995


def test_real_examples_that_were_drawn_too_widen_the_interval() -> None:
    """With a tenth as many real examples as samples, nearly all of the variance is theirs."""
    found = kernel_left_out(*draws(100, 1000, 0.3, 1.2))
    alone = half_width(LeftOut(found.value, found.real[:0], found.generated))
    assert half_width(found) > 1.5 * alone


@pytest.mark.parametrize("d", [8, 64])
def test_the_extrapolation_takes_the_bias_away(d: int) -> None:
    """Two samples of one normal: the distance is about c / N above 0, the extrapolated one is not."""
    plain, beyond = [], []
    for _ in range(25):
        x, y = torch.randn(400, d, dtype=torch.float64), torch.randn(300, d, dtype=torch.float64)
        plain.append(frechet_distance(x, y))
        beyond.append(frechet_infinity(x, y))
    biased, mean = torch.stack(plain), torch.stack(beyond)
    # in one dimension E = (2 var / 2) (1/n + 1/m) / 2 for the variances and the same twice for the means; in d, d² / 4
    first_order = (d + d * (d + 1) / 4) * (1 / 400 + 1 / 300)
    assert biased.mean().item() == pytest.approx(first_order, rel=0.15)  # the next order is d / N of the first
    assert abs(mean.mean()) < 4 * mean.std() / 5 + 0.02 * first_order


def test_the_extrapolation_leaves_a_true_distance() -> None:
    found = torch.stack([frechet_infinity(torch.randn(400, 6), torch.randn(300, 6) * 1.5 + 1) for _ in range(25)])
    assert abs(found.mean() - 6 * (1 + 0.25)) < 4 * found.std() / 5


def test_what_is_a_line_in_the_inverse_sizes_is_extrapolated_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a slope of another norm or sign, the sizes of one side alone, fewer than four sizes."""
    sizes, used = [], []

    def line(x: Tensor, y: Tensor) -> float:
        sizes.append((len(x), len(y)))
        used.append(x[:, 0])
        return 3 + 50 * (1 / len(x) + 1 / len(y))

    monkeypatch.setattr("dgm.evaluation.frechet.frechet_distance", line)
    found = frechet_and_infinity(folds(torch.randn(120, 2)), folds(torch.randn(240, 2)))
    assert found.tolist() == pytest.approx([3 + 50 * (1 / 120 + 1 / 240), 3.0])
    assert len(sizes) == 1 + 2 + 3 + 4
    assert sum(n for n, _ in sizes) == 4 * 120
    for subsets in (used[:1], used[1:3], used[3:6], used[6:]):  # each example is in one of them
        assert len(torch.cat(subsets).unique()) == 120


def test_an_extrapolation_needs_pieces_of_ten() -> None:
    with pytest.raises(BadInput, match="an extrapolation needs 40 examples, got 39 real"):
        frechet_infinity(torch.randn(39, 2), torch.randn(60, 2))
    value = frechet_and_infinity(folds(torch.randn(39, 2)), folds(torch.randn(60, 2)))
    assert value.isfinite().tolist() == [True, False]


def test_a_piece_keeps_its_examples_when_a_fold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the chance of who is in which piece would count as the chance of the draw."""
    seen: list[set[float]] = []
    monkeypatch.setattr("dgm.evaluation.frechet.frechet_distance", lambda x, y: seen.append(set(x[:, 0].tolist())) or 0)
    x = folds(torch.arange(200.0)[:, None].expand(200, 2))
    frechet_and_infinity(x, x)
    whole, seen[:] = list(seen), []
    frechet_and_infinity(x[1:], x)
    assert all(left == all_ - set(x[0][:, 0].tolist()) for left, all_ in zip(seen, whole, strict=True))


def test_the_order_of_the_data_does_not_matter() -> None:
    """Ten labels far apart that come in turn: folds of every tenth would each lack one label and look unlike all."""
    means = 10 * torch.randn(10, 4, dtype=torch.float64)
    x, y = (means.repeat(40, 1) + torch.randn(400, 4, dtype=torch.float64) for _ in range(2))
    other = torch.randperm(400)
    in_turn, mixed = (half_width(kernel_left_out(folds(a), folds(b))) for a, b in ((x, y), (x[other], y[other])))
    assert (in_turn / mixed - 1).abs() < 0.5  # a standard deviation of 18 degrees of freedom varies by a sixth


def test_shares_stay_in_their_range() -> None:
    assert distances.interval("coverage", 0.98, 0.1) == {"value": 0.98, "low": pytest.approx(0.88), "high": 1.0}
    assert distances.interval("density", 0.98, 0.1)["high"] == pytest.approx(1.08)
    assert distances.interval("kernel", 0.0, 0.1)["low"] == pytest.approx(-0.1)
    for name in ("precision", "recall", "coverage", "density", "frechet"):
        assert distances.interval(name, 0.05, 0.1)["low"] == 0
    assert distances.interval("frechet", 5.0, 0.1)["high"] == pytest.approx(5.1)


def test_each_of_two_folds_is_left_out_and_a_single_one_is_not() -> None:
    """Of pairs, in both sets at once: here the mean product. Kills: a jackknife of more than two folds alone."""
    x, y = [torch.tensor([2.0]), torch.tensor([3.0])], [torch.tensor([5.0]), torch.tensor([7.0])]
    product = lambda a, b: (a * b).mean()[None]  # noqa: E731
    assert left_out_in_pairs(product, x, y).real.tolist() == [[21.0], [10.0]]
    assert left_out_in_pairs(product, x[:1], y[:1]).real.shape == (0, 1)
    by_set = left_out(lambda a, b: torch.cat([torch.cat(a).mean()[None], torch.cat(b).mean()[None]]), x, y)
    assert by_set.real.tolist() == [[3.0, 6.0], [2.0, 6.0]]
    assert by_set.generated.tolist() == [[2.5, 7.0], [2.5, 5.0]]


def test_few_examples_are_a_fold_each() -> None:
    assert [len(fold) for fold in folds(torch.zeros(4, 2))] == [1] * 4
    assert len(folds(torch.zeros(11, 2))) == jackknife.FOLDS
