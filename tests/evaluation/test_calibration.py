"""Calibration of conditionals whose truth is known, and Bayes' rule against the closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from dgm import create, data
from dgm.data import Dataset, Split
from dgm.evaluation.calibration import (
    calibration,
    coverage,
    draws_of_each,
    ordered,
    posterior_calibration,
    ranks,
    uniformity_p,
)
from dgm.evaluation.cautions import memorised
from dgm.evaluation.classification import BINS, calibration_error, classification, posterior
from dgm.evaluation.memorisation import memorisation, shares
from dgm.networks.conditions import Marginal
from dgm.protocols import Model
from dgm.seeds import Seed, streams
from dgm.space import Space

LABELS = Space.categories(3)
MEANS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


class Normals(nn.Module):
    """x = mean of its label + spread times noise, with log p(x|y) of a spread of 1; labels with shares of their own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, spread: float = 1.0, shares: tuple[float, ...] = (0.5, 0.3, 0.2)) -> None:
        super().__init__()
        self.space, self.condition, self.config = Space.continuous((2,)), LABELS, self.Config()
        self.spread, self.marginal = spread, Marginal(LABELS)
        self.marginal.shares.copy_(torch.tensor(shares))

    def sample(self, n: int, y: Tensor, *, seed: Seed = None) -> Tensor:
        return MEANS[y] + self.spread * streams(n, seed).normal((2,))

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        return -((x - MEANS[y]) ** 2).sum(1) / 2 - math.log(2 * math.pi)


def labelled(n: int = 400) -> Dataset:
    y = torch.randint(3, (n,))
    split = Split(MEANS[y] + torch.randn(n, 2), y)
    return Dataset(
        name="normals",
        space=Space.continuous((2,)),
        train=split,
        validation=split,
        test=split,
        split="drawn",
        condition=LABELS,
    )


def test_ranks_count_smaller_draws_and_order_equal_ones_at_random() -> None:
    truth, draws = torch.tensor([[2.0, 5.0]]), torch.tensor([[[1.0, 9.0]], [[3.0, 1.0]], [[0.0, 7.0]]])
    assert ranks(truth, draws).tolist() == [[2, 1]]
    equal = ranks(torch.zeros(8000, 1), torch.zeros(3, 8000, 1)).flatten()
    assert equal.bincount().tolist() == pytest.approx([2000] * 4, abs=4 * math.sqrt(8000 * 3 / 16))


def test_coverage_is_the_share_of_central_ranks() -> None:
    """Of each rank once the coverage is the level; of ranks at the ends it is 0."""
    once = torch.arange(20)[:, None]
    assert coverage(once, 19, 0.5).item() == 0.5
    assert coverage(once, 19, 0.9).item() == 0.9
    assert coverage(torch.tensor([[0], [19]]), 19, 0.9).item() == 0
    assert coverage(torch.tensor([[1], [18], [0], [10]]), 19, 0.9).item() == 0.75
    assert uniformity_p(once[:, 0].repeat(10), 19) == 1
    assert uniformity_p(once[:, 0].repeat(10) // 2, 19) < 1e-6


@pytest.mark.parametrize("level", [0.3, 0.5, 0.8, 0.9])
def test_the_interval_is_the_central_one_nearest_to_the_level(level: float) -> None:
    """Of every number of draws, with each rank once. Kills: draws for draws + 1, a tail that is rounded down."""
    for draws in range(1, 40):
        share = coverage(torch.arange(draws + 1)[:, None], draws, level).item()
        others = [(draws + 1 - 2 * tail) / (draws + 1) for tail in range((draws + 1) // 2 + 1)]
        assert abs(share - level) == pytest.approx(min(abs(other - level) for other in others))


@pytest.mark.parametrize(("spread", "low", "high"), [(1.0, 0.82, 0.97), (0.3, 0.2, 0.5), (4.0, 0.99, 1.0)])
def test_a_conditional_that_is_too_narrow_or_too_wide_is_found(spread: float, low: float, high: float) -> None:
    """200 examples: 90 % of them, give or take four standard errors; |N(0, 1)| < 1.64 * 0.3 has 38 %."""
    found = calibration(Normals(spread), labelled(), "test")
    assert found is not None
    assert (found["n"], found["draws"]) == (200, 19)
    for column in found["columns"]:
        assert low <= column["coverage"]["90%"] <= high
        assert (column["p"] < 1e-3) == (spread != 1)


def test_columns_of_a_fitted_normal_are_calibrated_given_the_others() -> None:
    """The two columns are correlated: given the other one, the interval is half as wide as without it."""
    z = torch.randn(1200, 2)
    x = torch.stack([z[:, 0], 0.87 * z[:, 0] + 0.5 * z[:, 1]], 1)
    table = data.load(x.numpy())
    model = create("gmm", table.space, components=1)
    for _ in model.fit([(table.train.x, None)]):
        pass
    found = calibration(model, table, "test")
    assert found is not None
    assert found["rule"].endswith("given all other columns")
    n = found["n"]
    for column in found["columns"]:
        assert column["coverage"]["90%"] == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / n))
        assert column["coverage"]["50%"] == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / n))
        assert column["p"] > 1e-3


def test_each_number_is_drawn_given_all_others() -> None:
    """Of three numbers that are their row's own, a model that repeats the mean of what it sees."""

    class Repeats(nn.Module):
        space, condition = Space.continuous((3,)), None

        def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
            raise AssertionError

        def impute(self, x: Tensor, observed: Tensor, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
            assert (observed.sum(1) == 2).all()
            return torch.where(observed, x, (x * observed).sum(1, keepdim=True) / 2)

        def log_prob_observed(self, x: Tensor, observed: Tensor, y: Tensor | None = None) -> Tensor:
            raise AssertionError

    x = torch.tensor([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]])
    found = draws_of_each(Repeats(), x, 0)
    expected = torch.tensor([[55.0, 50.5, 5.5], [110.0, 101.0, 11.0]])
    torch.testing.assert_close(found, expected.expand(19, 2, 3))


def linear_vae(spread: float = 1.0, shift: float = 0.0) -> Model:
    r"""x = W z + sigma eps with orthogonal columns w_j, and q(z|x) of ``spread`` times the posterior's deviation.

    .. math:: p(z_j|x) = N(w_j^T x / (|w_j|^2 + \sigma^2), \sigma^2 / (|w_j|^2 + \sigma^2))
    """
    sigma, w = 0.5, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.3]])
    model = create("vae", Space.continuous((3,)), latent=2, scale=sigma)
    decoder, encoder = nn.Linear(2, 3), nn.Linear(3, 4)
    precision = w.square().sum(0) + sigma**2
    with torch.no_grad():
        decoder.weight.copy_(w)
        decoder.bias.zero_()
        encoder.weight.copy_(torch.cat([w.mT / precision[:, None], torch.zeros(2, 3)]))
        encoder.bias.copy_(torch.cat([torch.full((2,), shift), (spread * sigma / precision.sqrt()).log()]))
    model.decoder, model.encoder = decoder, encoder
    return model


@pytest.mark.parametrize(
    ("how", "low", "high"), [({}, 0.86, 0.94), ({"spread": 0.4}, 0.4, 0.6), ({"spread": 3.0}, 0.98, 1.0)], ids=str
)
def test_the_posterior_of_a_linear_vae_is_calibrated_and_a_narrow_one_is_not(
    how: dict[str, float], low: float, high: float
) -> None:
    """400 ranks of 90 %: give or take about three standard errors; |N(0, 1)| < 1.64 * 0.4 has 49 %."""
    torch.manual_seed(0)
    found = posterior_calibration(linear_vae(**how))
    assert found is not None
    assert low <= found["coverage"]["90%"] <= high
    assert (found["p"] < 1e-3) == bool(how)
    assert found["p"] == min(1.0, 2 * min(found["each"]))  # Bonferroni's correction for two dimensions
    assert len(found["each"]) == found["dimensions"] == 2


def test_a_posterior_whose_mean_is_wrong_is_found() -> None:
    found = posterior_calibration(linear_vae(shift=0.4))
    assert found is not None
    assert found["p"] < 1e-3
    assert posterior_calibration(create("gmm", Space.continuous((2,)))) is None


def test_unordered_numbers_and_images_are_left_out() -> None:
    record = Space.record(job=Space.categories(3), age=Space.levels((), 99))
    split = Split(torch.zeros(9, 2, dtype=torch.float64))
    table = Dataset(name="t", space=record, train=split, validation=split, test=split, split="")
    assert ordered(table) == {1: "1"}
    assert ordered(data.load("digits")) == {}


def test_bayes_rule_of_normals() -> None:
    """log p(y|x) = x·mean - |mean|² / 2 + log p(y), normalised; a label without a share has probability 0."""
    x = torch.randn(50, 2)
    expected = (x @ MEANS.mT - MEANS.square().sum(1) / 2 + torch.tensor([0.5, 0.3, 0.2]).log()).double().log_softmax(1)
    torch.testing.assert_close(posterior(Normals(), x), expected, rtol=1e-5, atol=1e-6)
    two = posterior(Normals(shares=(0.5, 0.5, 0.0)), x)
    assert (two[:, 2] == -math.inf).all()
    assert two.exp().sum(1).tolist() == pytest.approx([1] * 50)


def test_classification_by_bayes_rule_says_so_and_is_calibrated() -> None:
    table = labelled(500)
    found = classification(Normals(shares=(1 / 3, 1 / 3, 1 / 3)), table.test, "test")
    assert found is not None
    assert "by Bayes' rule from its exact log p(x|y)" in found["rule"]
    log_p = posterior(Normals(shares=(1 / 3, 1 / 3, 1 / 3)), table.test.x)
    right = (log_p.argmax(1) == table.test.y).double()
    assert found["accuracy"] == pytest.approx(right.mean().item())
    assert found["accuracy_se"] == pytest.approx(right.std(correction=0).item() / 500**0.5)
    assert table.test.y is not None
    assert found["log_p"] == pytest.approx(log_p[torch.arange(500), table.test.y].mean().item())
    # the expected error of 500 labels from the right p(y|x), in some ten bins of fifty, is 0.05
    assert found["calibration_error"] < 0.1
    assert classification(create("gmm", table.space), table.test, "test") is None


def test_the_calibration_error_is_torchmetrics() -> None:
    p, y = torch.randn(300, 4).mul(2).softmax(1), torch.randint(4, (300,))
    right = (p.argmax(1) == y).double()
    expected = multiclass_calibration_error(p, y, 4, n_bins=BINS, norm="l1").item()
    assert calibration_error(p.double().amax(1), right) == pytest.approx(expected, abs=1e-6)
    edge = torch.tensor([5 / BINS, 5 / BINS + 0.01], dtype=torch.float64)  # between two bins, which is in the lower one
    found = calibration_error(edge, torch.tensor([0.0, 1.0]).double())
    assert found == pytest.approx((5 / BINS + 1 - 5 / BINS - 0.01) / 2)


def test_the_noise_of_a_bound_selects_no_label() -> None:
    class Noisy(Normals):
        """A bound that says nothing of the label and is drawn anew each time."""

        log_prob = None  # type: ignore[assignment]

        def elbo(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.randn(len(x))

    found = posterior(Noisy(), torch.zeros(20, 2))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.3, 0.2]).double().log().expand(20, 3), rtol=0, atol=1e-6)


def test_copies_in_features_are_found_and_cautioned_against() -> None:
    """Training images are copies in every space, and held-out ones are not."""
    digits = data.load("digits")
    found = memorisation(digits, digits.train.x[:100], digits.test.x, ["pca"])
    assert found["share"] == found["in_features"]["pca"]["share"] == found["exact"] == 1
    assert found["authenticity"] == found["in_features"]["pca"]["authenticity"] == 0
    for held_out in (found, found["in_features"]["pca"]):
        assert held_out["held_out_share"] < 0.05
        assert held_out["held_out_authenticity"] > 0.3
    parts = (SimpleNamespace(share=k + 0.1, exact=k + 0.2, authenticity=k + 0.3) for k in range(2))
    assert list(shares(*parts).values()) == [0.1, 0.2, 0.3, 1.1, 1.2, 1.3]
    caution = memorised({"memorisation": found})
    assert caution.startswith("Memorised: 100% of the samples are copies of training examples in pixels, of held-out")
    assert memorised({"memorisation": found | {"share": 0.04, "in_features": {}}}) == ""
    only_features = found | {"share": 0.0}
    assert "in pca" in memorised({"memorisation": only_features})
