"""`dgm evaluate A --against B`: two sides whose divergence is known, references, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from dgm import data
from dgm.cli.against import show
from dgm.data import Dataset, Split
from dgm.errors import BadInput
from dgm.evaluation.against import OF_PAIRS, against, neighbours, references
from dgm.evaluation.divergences import FUNCTIONS, neighbour_kl
from dgm.evaluation.jackknife import folds, half_width, left_out_in_pairs
from dgm.evaluation.sides import Side
from dgm.evaluation.transport import wasserstein
from dgm.seeds import Seed, streams
from dgm.space import Space


class Shifted(nn.Module):
    """N(c, I) in the plane."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, c: float) -> None:
        super().__init__()
        self.space, self.config, self.c = Space.continuous((2,)), self.Config(), c

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        return streams(n, seed).normal((2,)) + self.c

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -((x - self.c) ** 2).sum(1) / 2 - math.log(2 * math.pi)


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
