"""`dgm evaluate A --against B`: two sides whose divergence is known, references, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm import data
from dgm.cli.against import show
from dgm.data import Dataset, Split
from dgm.errors import BadInput
from dgm.evaluation.against import OF_PAIRS, against, neighbours, quadrature, references
from dgm.evaluation.divergences import FUNCTIONS, classifier_bound, f_divergence, neighbour_kl
from dgm.evaluation.jackknife import folds, half_width, left_out_in_pairs
from dgm.evaluation.kernel import KERNELS, median_distance, permutation_p
from dgm.evaluation.sides import Side
from dgm.evaluation.transport import sliced_wasserstein, wasserstein
from dgm.evaluation.two_sample import held_out_log_ratios
from dgm.networks.conditions import Marginal
from dgm.seeds import Seed, streams
from dgm.space import Space


class Shifted(nn.Module):
    """N(c, scale² I) in the plane."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, c: float, scale: float = 1.0) -> None:
        super().__init__()
        self.space, self.config, self.c, self.scale = Space.continuous((2,)), self.Config(), c, scale

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        return self.scale * streams(n, seed).normal((2,)) + self.c

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -(((x - self.c) / self.scale) ** 2).sum(1) / 2 - math.log(2 * math.pi * self.scale**2)


def points(n: int, c: float = 0.0, name: str = "normal") -> Dataset:
    generator = torch.Generator().manual_seed(3)
    splits = {part: Split(torch.randn(n, 2, generator=generator) + c) for part in ("train", "validation", "test")}
    return Dataset(name=name, space=Space.continuous((2,)), split="drawn", **splits)


def side(c: float) -> Side:
    return Side(f"N({c:g}, I)", points(60), Shifted(c))


@pytest.fixture(scope="module")
def document() -> dict:
    return json.loads(json.dumps(against(side(0.0), side(0.6), samples=200)))


def value(document: dict, name: str, of: str) -> dict:
    return next(row for row in document["rows"] if row["name"] == name and row["features"] == of)


def test_divergences_of_two_normals(document: dict) -> None:
    """KL is |c|² / 2 = 0.36, TV is 2 Phi(|c| / 2) - 1, Fisher's |c|²: by samples in their interval, by quadrature."""
    true = {"kl": 0.36, "reverse_kl": 0.36, "total_variation": math.erf(0.6 / 2), "chi_squared": math.expm1(0.72)}
    for name, expected in true.items():
        by_samples, by_sum = [row for row in document["rows"] if row["name"] == name and row["features"] == "density"]
        half = (by_samples["high"] - by_samples["low"]) / 2
        assert abs(by_samples["value"] - expected) < 2 * half
        # of 400 cells a side; in float32 densities
        assert by_sum["value"] == pytest.approx(expected, abs=1e-3)
        assert "masses are 1.0000 and 1.0000" in by_sum["method"]
    assert value(document, "fisher", "density")["value"] == pytest.approx(0.72, rel=1e-5)
    assert value(document, "kl", "pixels")["value"] < 0.36 + 0.1
    assert document["skipped"] == []


def test_every_measure_is_there_once_with_an_interval_that_contains_it(document: dict) -> None:
    rows = [row for row in document["rows"] if row["features"] == "pixels"]
    names = [name for measure in OF_PAIRS for name in measure.names] + ["two_sample_accuracy", *FUNCTIONS]
    assert [row["name"] for row in rows] == names
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert {row["name"] for row in rows if "p" in row} == {
        *("kernel", "energy_distance", "two_sample_accuracy"),
        *("mmd_gaussian", "mmd_laplace", "mmd_inverse_multiquadric"),
    }


def test_other_samples_of_b_in_the_place_of_a_are_at_its_level(document: dict) -> None:
    """The distances of 0.85 between the means are above those of B to itself; D(A || B) names A first."""
    for name in ("wasserstein", "sliced_wasserstein", "frechet", "energy_distance", "mmd_gaussian"):
        row = value(document, name, "pixels")
        assert row["value"] > row["reference"]["high"], name
    assert value(document, "energy_distance", "pixels")["p"] < 0.01
    accuracy = value(document, "two_sample_accuracy", "pixels")
    assert accuracy["reference"]["low"] < 0.5 < accuracy["reference"]["high"]


def test_rows_are_the_measures_of_the_examples_of_a_and_of_b() -> None:
    """Of N(0, 0.8² I) and N(0.3, I), which no measure is symmetric in."""
    a, b = Side("a", points(60), Shifted(0.0, 0.8)), Side("b", points(60), Shifted(0.3))
    document, x, y = against(a, b, samples=60), a.draw(60).double(), b.draw(60).double()
    pooled = torch.cat([x, y])
    for name, expected in {"sliced_wasserstein": sliced_wasserstein(x, y), "wasserstein": wasserstein(x, y)}.items():
        assert value(document, name, "pixels")["value"] == pytest.approx(expected.item(), rel=1e-5)
    for name, kernel in {"energy_distance": "energy", "mmd_gaussian": "gaussian"}.items():
        p = permutation_p(x, y, KERNELS[kernel](median_distance(pooled)))
        assert value(document, name, "pixels")["p"] == pytest.approx(p)
    of_both = [torch.distributions.Normal(c, s) for c, s in ((0.0, 0.8), (0.3, 1.0))]
    log_ratio = (of_both[0].log_prob(pooled) - of_both[1].log_prob(pooled)).sum(1)
    for name, f in FUNCTIONS.items():
        row, estimate = value(document, name, "density"), f_divergence(f, *log_ratio.split(60))
        assert row["value"] == pytest.approx(estimate.value.item(), rel=1e-4)
        assert row["high"] - row["value"] == pytest.approx(1.96 * estimate.error.item(), rel=1e-4)
    apart = (-x / 0.8**2 + (x - 0.3)).square().sum(1)
    assert value(document, "fisher", "density")["value"] == pytest.approx(apart.mean().item(), rel=1e-5)
    bound = classifier_bound(FUNCTIONS["kl"], *held_out_log_ratios(x, y)).value.item()
    assert value(document, "kl", "pixels")["value"] == pytest.approx(bound)


def test_quadrature_is_the_integral_over_the_points_and_half_their_range_to_either_side() -> None:
    """Of p = e^x and q = e^2x the integral of p log(p / q), (1 - x) e^x, from -1/2 to 3/2."""
    p, q = (SimpleNamespace(log_prob=lambda x, k=k: k * x[:, 0].double()) for k in (1, 2))
    rows: Any = {row["name"]: row["value"] for row in quadrature(p, q, torch.tensor([[0.0], [1.0]]))}  # type: ignore[arg-type]
    assert rows["kl"] == pytest.approx(-0.5 * math.exp(1.5) - 1.5 * math.exp(-0.5), rel=1e-4)


def test_there_are_no_more_of_a_than_of_b() -> None:
    known = replace(points(30), log_prob=Shifted(0.0).log_prob)
    assert against(side(0.0), Side("b", known), samples=40, spaces=[])["n"] == 30


def test_others_of_a_side_are_other_samples_or_held_out_examples_many_times() -> None:
    """None where there are fewer outside of the split; the pool is the validation split and half of the training."""
    model, table = side(0.0), Side("points", points(60))
    (others,) = model.others(20)
    assert not torch.isin(others, model.draw(20)).any()
    drawn = table.others(90)
    assert len(drawn) == 5
    assert len({tuple(draw[:, 0].tolist()) for draw in drawn}) == 5
    assert table.others(91) == []


def test_samples_of_another_seed_have_other_conditions() -> None:
    class Given(Shifted):
        """Samples that are their label."""

        condition = Space.categories(50)

        def __init__(self) -> None:
            super().__init__(0.0)
            self.marginal = Marginal(self.condition)

        def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
            assert y is not None
            return y[:, None].expand(n, 2).float()

    first, again, other = (Side("a", points(60), Given(), seed=seed).draw(40) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_energy_is_the_negative_of_a_log_density() -> None:
    energy = dgm.create("ebm", Space.continuous((2,)), width=4).eval()
    x = torch.randn(5, 2)
    log_density = Side("ebm", points(60), energy).log_density
    assert log_density is not None
    torch.testing.assert_close(log_density(x), -energy.energy(x))
    given = dgm.create("made", Space.continuous((2,)), Space.categories(3), hidden=4)
    assert Side("made", points(60), given).log_density is None
    log_prob = Side("made", points(60), given.eval()).log_prob
    assert log_prob is not None
    each = torch.stack([given.log_prob(x, torch.full((5,), k)) for k in range(3)])
    expected = (each + given.marginal.shares.log()[:, None]).logsumexp(0)
    torch.testing.assert_close(log_prob(x), expected.double(), rtol=1e-4, atol=1e-5)


def test_neighbours_name_a_first() -> None:
    """KL(N(0, I / 4) || N(0, I)) is 2 (1/8 - 1/2 + log 2) = 0.64. Its reverse, 1.61, is far too small of 400 points."""
    a, b = torch.randn(400, 2, dtype=torch.float64) / 2, torch.randn(400, 2, dtype=torch.float64)
    kl, reverse = neighbours([b], [a]).value.tolist()
    assert kl == pytest.approx(neighbour_kl(a, b).item())
    assert reverse == pytest.approx(neighbour_kl(b, a).item())
    assert kl == pytest.approx(0.64, abs=0.2)


def test_a_reference_is_the_mean_of_several_draws_with_the_interval_of_one() -> None:
    """Kills: the value of the first draw, an interval that narrows with the number of draws."""
    (measure,) = (one for one in OF_PAIRS if one.names == ("energy_distance",))
    of_b, others = torch.randn(60, 2).double(), [torch.randn(60, 2).double() + k for k in range(3)]
    (found,) = references(measure, of_b, others).values()
    values = [measure.of([of_b], [other]).value.item() for other in others]
    assert found["value"] == pytest.approx(sum(values) / 3)
    half = half_width(measure.of(folds(of_b), folds(others[0]))).item()
    assert found["high"] - found["value"] == pytest.approx(half)


def test_pairs_that_are_left_out_give_the_error_of_a_mean() -> None:
    """Of a difference of means the jackknife is its standard error, with Student's quantile of nine degrees."""
    x, y = torch.randn(40, 1, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)
    found = left_out_in_pairs(lambda a, b: (a - b).mean(0), folds(x), folds(y))
    means = torch.stack([a.mean() - b.mean() for a, b in zip(folds(x), folds(y), strict=True)])
    assert half_width(found).item() == pytest.approx(2.262157 * (means.std() / math.sqrt(10)).item(), rel=1e-6)
    alone = left_out_in_pairs(lambda a, b: wasserstein(a, b)[None], [x], [y])
    assert (alone.value.item(), len(alone.real)) == (wasserstein(x, y).item(), 0)


def test_what_cannot_be_compared_is_refused() -> None:
    digits = data.load("digits")
    with pytest.raises(BadInput, match=r"normal is of .*, digits of levels"):
        against(Side("normal", points(60)), Side("digits", digits))
    with pytest.raises(BadInput, match="digits and digits are the same examples"):
        against(Side("digits", digits), Side("digits", digits))
    with pytest.raises(BadInput, match="at least 20 examples of each, there are 10"):
        against(Side("few", points(10)), side(0.0))


def test_the_table_says_the_bias_of_neighbours_and_no_p_of_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """In at most 80 columns."""
    row = {"features": "pca", "value": -1.6, "low": -2.0, "high": -1.0, "reference": None}
    rows = [row | {"name": "neighbour_kl"}, row | {"name": "two_sample_accuracy", "p": 1e-9}]
    side = {"name": "runs/a", "what": "20 samples of seed 0"}
    show({"a": side, "b": side, "rows": rows, "skipped": []})
    said = capsys.readouterr().out
    assert "KL by neighbours is far too small, even below 0" in said
    assert "<.001" in said
    assert "0.000" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_density_without_a_gradient_leaves_the_other_divergences() -> None:
    """Moons and a checkerboard of uniform squares. Kills: one error for all divergences of known densities."""
    a, b = (Side(name, data.load(name)) for name in ("toy/moons", "toy/checkerboard"))
    document = against(a, b, samples=50, spaces=[])
    assert "total_variation" in {row["name"] for row in document["rows"]}
    assert "fisher of known densities" in {left["what"] for left in document["skipped"]}
