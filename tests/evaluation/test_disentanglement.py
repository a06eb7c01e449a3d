"""Measures of codes in closed form: a factor in each dimension, rotated factors, half a factor, no factor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation import disentanglement as measures

FACTORS = torch.cartesian_prod(torch.arange(4), torch.arange(4), torch.arange(3)).repeat(12, 1)  # 576 examples
ALIGNED = FACTORS[:, [2, 0, 1]].double() * torch.tensor([1.0, -3.0, 0.1]) + 5
ORDERED = [True, True, False]


def rotated() -> Tensor:
    """The first two factors, standardised, turned by 45 degrees."""
    v = FACTORS[:, :2].double() - 1.5
    return torch.stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1]], 1)


def noise(columns: int = 3) -> Tensor:
    return torch.randn(len(FACTORS), columns, generator=torch.Generator().manual_seed(0)).double()


def test_the_gap_of_a_factor_in_each_dimension_is_one_and_of_half_a_factor_half() -> None:
    assert measures.mutual_information_gap(ALIGNED, FACTORS) == pytest.approx(1)
    assert measures.mutual_information_gap(rotated(), FACTORS[:, :2]) == pytest.approx(0, abs=1e-9)
    half = torch.stack([FACTORS[:, 0] // 2, FACTORS[:, 1]], 1)
    assert measures.mutual_information_gap(half, FACTORS[:, :1]) == pytest.approx(math.log(2) / math.log(4))
    twice = ALIGNED[:, [1, 1, 2]]
    assert measures.mutual_information_gap(twice, FACTORS[:, :2]) == pytest.approx(1 / 2)
    # 19 bins beyond the first of a code without information: I is (19 - 0) (4 - 1) / 2 N in expectation
    assert measures.mutual_information_gap(noise(), FACTORS[:, :2]) < 0.05


def test_bins_are_of_equal_width_and_include_both_ends() -> None:
    z = torch.tensor([[0.0, 7.0], [0.049, 7.0], [0.051, 7.0], [1.0, 7.0]])
    assert measures.binned(z).tolist() == [[0, 0], [0, 0], [1, 0], [19, 0]]


def test_the_predictability_of_a_factor_in_each_dimension_is_one_above_that_of_chance() -> None:
    """1 - 0 for squared correlations, 1 - 1/3 for the accuracy of three categories."""
    found = measures.separated_attribute_predictability(ALIGNED, FACTORS, ORDERED)
    assert found == pytest.approx((1 + 1 + 2 / 3) / 3)
    gap = measures.separated_attribute_predictability(rotated(), FACTORS[:, :2], ORDERED[:2])
    assert gap == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(measures.squared_correlations(rotated(), FACTORS[:, 0]), torch.full((2,), 0.5).double())


def test_a_category_between_two_others_is_predicted_too() -> None:
    """Six intervals of one dimension. Kills: a classifier that is regularised as usual, with 0.8."""
    z = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
    assert measures.accuracies(z, (z[:, 0] * 5.99).long()).tolist() == pytest.approx([1])


def test_a_rare_category_counts_as_much_as_a_frequent_one() -> None:
    """Normals one standard deviation to either side of 0: every threshold but 0 is worse for the two categories
    together, each of which then is right in Phi(1) = 84 % of its examples. Kills: a classifier of the frequent one.
    """
    generator = torch.Generator().manual_seed(0)
    rare = torch.arange(4000) % 20 == 0
    z = torch.randn(4000, 1, generator=generator) + torch.where(rare, 1.0, -1.0)[:, None]
    assert measures.accuracies(z, rare.long()).item() == pytest.approx(0.8413, abs=5 * 0.5 * 0.37 / 200**0.5)


def test_the_accuracy_is_the_mean_over_categories() -> None:
    """All of a hundred at -1 are right, and of four at 1, 1, 1 and -1 three."""
    z = torch.tensor([[-1.0]] * 100 + [[1.0]] * 3 + [[-1.0]])
    rare = torch.tensor([0] * 100 + [1] * 4)
    assert measures.accuracies(z, rare).item() == pytest.approx((1 + 3 / 4) / 2)


def test_dci_of_a_factor_in_each_dimension_is_one() -> None:
    found = measures.dci(ALIGNED, FACTORS, ALIGNED, FACTORS)
    assert found == pytest.approx((1, 1, 1))
    shared = torch.stack([4 * FACTORS[:, 0] + FACTORS[:, 1], FACTORS[:, 2]], 1)  # two factors in one dimension
    found = measures.dci(shared, FACTORS, shared, FACTORS)
    assert found.disentanglement == pytest.approx(1 - 2 / 3 * math.log(2) / math.log(3), abs=0.01)
    assert found.completeness == pytest.approx(1, abs=0.01)
    random = measures.dci(noise(), FACTORS, noise().flip(0), FACTORS)
    assert max(random.disentanglement, random.completeness) < 0.1
    assert random.informativeness < 0.45  # chance is (1/4 + 1/4 + 1/3) / 3


def test_disentanglement_of_an_importance_matrix_is_the_formula() -> None:
    """Of R = [[2, 2], [0, 1]]: dimension 0 has two factors, dimension 1 one; rho = 4/5, 1/5. Complete: by columns."""
    importance = torch.tensor([[2.0, 2.0], [0.0, 1.0]])
    assert measures.disentanglement(importance) == pytest.approx(1 / 5)
    unused = torch.cat([importance, torch.zeros(1, 2)])  # a dimension that tells nothing has no weight
    assert measures.disentanglement(unused) == pytest.approx(1 / 5)
    entropy = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert measures.disentanglement(importance.T) == pytest.approx(2 / 5 + 3 / 5 * (1 - entropy))
    assert measures.disentanglement(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)
    assert measures.disentanglement(torch.eye(3)) == pytest.approx(1)


def test_the_fixed_factor_is_found_by_the_dimension_that_varies_least() -> None:
    assert measures.factor_vae_score(ALIGNED, FACTORS) == 1
    scales = torch.tensor([1.0, 20.0, 1.0])  # noise of the second is more than all of the first, in absolute terms
    assert measures.factor_vae_score((FACTORS + 0.1 * noise()) * scales, FACTORS) == 1
    constant = torch.full((len(FACTORS), 1), 2.0)
    assert measures.factor_vae_score(torch.cat([ALIGNED, constant], 1), FACTORS) == 1
    assert measures.factor_vae_score(constant, FACTORS) == 0
    collapsed = 0.01 * noise(1)  # of 1.5 at most, whose variance relative to its own is as small as any
    assert measures.factor_vae_score(torch.cat([ALIGNED[:, :1], collapsed], 1), FACTORS[:, [2, 0]]) == pytest.approx(
        measures.factor_vae_score(ALIGNED[:, :1], FACTORS[:, [2, 0]])
    )
    # one dimension votes for one of three factors: of 250 votes, to 4 standard errors
    assert measures.factor_vae_score(ALIGNED[:, :1], FACTORS) == pytest.approx(1 / 3, abs=0.12)
    assert measures.factor_vae_score(noise(), FACTORS) < 0.5


def test_votes_are_judged_by_other_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one dimension that votes for one of three factors, ten times in each half: a third, where the votes that are
    the classifier would give it 0.51 of themselves.
    """
    monkeypatch.setattr(measures, "VOTES", 20)
    found = [measures.factor_vae_score(ALIGNED[:, :1], FACTORS, seed=seed) for seed in range(60)]
    assert sum(found) / 60 == pytest.approx(1 / 3, abs=4 * 0.15 / 60**0.5)


def test_a_probe_reads_what_is_linear_and_no_more() -> None:
    z, v, cut = ALIGNED, FACTORS, len(FACTORS) // 2
    for k in range(3):
        assert measures.linear_probe(z[:cut], v[:cut, k], z[cut:], v[cut:, k]) == 1
    either = (v[:, 0] // 2 + v[:, 1] // 2) % 2  # the exclusive or is on no side of a line
    assert measures.linear_probe(z[:cut], either[:cut], z[cut:], either[cut:]) == pytest.approx(0.5, abs=0.13)
    # held-out codes in the units of the training codes: all of these are on the upper side
    sides = torch.tensor([[-1.0], [1.0]]).repeat(10, 1), torch.tensor([0, 1]).repeat(10)
    assert measures.linear_probe(*sides, torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 1, 1])) == 1
    same = torch.zeros(cut).long()
    assert measures.linear_probe(z[:cut], same, z[:4], torch.tensor([0, 0, 0, 1])) == 0.75


def test_clusters_that_are_the_labels_agree_with_them_and_random_ones_do_not() -> None:
    labels = FACTORS[:, 2]
    found = measures.clustering(torch.stack([labels, -labels], 1) + 0.01 * noise(2), labels)
    assert found == pytest.approx((1, 1))
    random = measures.clustering(noise(), labels)
    assert abs(random.ari) < 0.02
    assert random.nmi < 0.02


def test_a_measure_of_gaps_needs_two_dimensions() -> None:
    with pytest.raises(BadInput, match="compares 2 columns, got 1"):
        measures.mutual_information_gap(ALIGNED[:, :1], FACTORS)
