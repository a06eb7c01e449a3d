"""Measures of a table's samples, against scipy, scikit-learn and closed forms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commands import dgm
from scipy import stats
from scipy.stats import contingency

from dgm.data.columns import Column
from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput, UnknownName
from dgm.evaluation import columns as measures
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.held_out import HeldOut
from dgm.registry import create
from dgm.space import Space

NAN = math.nan
COLUMNS = (
    Column(name="a"),
    Column(name="b", type="integer", offset=3),
    Column(name="c", type="category", values=("x", "y", "z")),
    Column(name="d", type="boolean", values=("false", "true")),
)
SPACE = Space.record(
    a=Space.continuous((), optional=True),
    b=Space.levels((), 10),
    c=Space.categories(3, optional=True),
    d=Space.binary(()),
)


def rows(n: int, seed: int, gap: float = 0.1) -> torch.Tensor:
    """d is a function of a and of c; a and b are correlated."""
    generator = numpy.random.default_rng(seed)
    a, c = generator.normal(size=n), generator.integers(0, 3, n).astype(float)
    b = numpy.clip(numpy.round(4 + 1.5 * a + generator.normal(size=n)), 0, 9)
    d = ((a > 0) ^ (c == 1)).astype(float)
    a[generator.uniform(size=n) < gap] = NAN
    c[generator.uniform(size=n) < gap] = NAN
    return torch.from_numpy(numpy.stack([a, b, c, d], 1))


def dataset(n: int = 600) -> Dataset:
    x = rows(n, 0)
    parts = {"train": Split(x[: n // 2]), "validation": Split(x[n // 2 : 3 * n // 4]), "test": Split(x[3 * n // 4 :])}
    return Dataset(name="made up", space=SPACE, columns=COLUMNS, split="", **parts)


def test_a_statistic_is_that_of_scipy() -> None:
    """Kills: one of the two distribution functions from the other side, a degree of freedom of V left out."""
    generator = numpy.random.default_rng(0)
    for n, m in ((40, 31), (5, 200)):
        a, b = (torch.from_numpy(numpy.round(generator.normal(k, 1, size), 1)) for k, size in ((0, n), (0.3, m)))
        assert measures.kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    a, b = torch.from_numpy(generator.integers(0, 3, 80)), torch.from_numpy(generator.integers(0, 5, 80))
    b = torch.maximum(a, b)
    expected = contingency.association(stats.contingency.crosstab(a.numpy(), b.numpy()).count, method="cramer")
    assert measures.cramers_v(a, b) == pytest.approx(expected)
    assert measures.cramers_v(a, torch.zeros(80).long()) == 0
    x = rows(200, 1)
    both = ~x[:, 0].isnan()
    expected = numpy.corrcoef(x[both, 0], x[both, 1])[0, 1]
    assert measures.correlation(x[:, 0], x[:, 1]) == pytest.approx(expected)
    assert measures.correlation(x[:, 1], x[:, 0]) == pytest.approx(expected)
    assert measures.correlation(x[:, 0], torch.ones(200)) == 0
    assert measures.total_variation(torch.tensor([0, 0, 1, 3]), torch.tensor([0, 1, 1, 1]), 4) == 0.5


def test_columns_have_the_measure_of_their_type() -> None:
    x, real = rows(300, 2, gap=0.0), rows(300, 3, gap=0.3)
    found = {(one["column"], one["measure"]): one["value"] for one in measures.by_column(x, real, COLUMNS)}
    known = real[:, 0][~real[:, 0].isnan()]
    assert found["a", "kolmogorov_smirnov"] == pytest.approx(stats.ks_2samp(x[:, 0], known).statistic)
    assert found["a, missing", "total_variation"] == pytest.approx(float(real[:, 0].isnan().double().mean()))
    assert found["c", "total_variation"] >= float(real[:, 2].isnan().double().mean())
    assert {name for _, name in found} == {"kolmogorov_smirnov", "total_variation"}
    assert ("b, missing", "total_variation") not in found
    mean = measures.means([{"measure": "m", "value": 1.0}, {"measure": "m", "value": 3.0}])
    assert mean == {"m": 2.0}


def test_pairs_of_shuffled_columns_lose_their_dependence() -> None:
    """Of samples with independent columns the difference is the correlation, and Cramér's V, of the data."""
    real = rows(3000, 4)
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.stack([column[torch.randperm(3000, generator=generator)] for column in real.mT], 1)
    off, none = (measures.pairs(part, real, COLUMNS) for part in (shuffled, real))
    assert none == {"correlation": 0, "cramers_v": 0}
    assert off["correlation"] == pytest.approx(abs(measures.correlation(real[:, 0], real[:, 1])), abs=0.06)
    codes = [measures.codes(real[:, k], missing) for k, missing in ((2, 3), (3, 2))]
    assert off["cramers_v"] == pytest.approx(measures.cramers_v(*codes), abs=0.06)


def test_rare_categories_of_a_pair_are_one() -> None:
    x = torch.arange(200).double() % 90
    number = measures.frequent(x, 90)
    assert number.unique().tolist() == list(range(51))
    assert (number[:20] < 50).all()  # those that occur three times
    assert int((number == 50).sum()) == 91 - 50  # all others, and a missing value


def test_the_rare_categories_are_those_of_the_real_rows() -> None:
    """Sixty of each; in samples, both columns are below ten always. Kills: the samples' frequent categories."""
    columns = [Column(name=name, type="category", values=tuple(map(str, range(60)))) for name in "ab"]
    real = torch.arange(60).double().repeat(20)[:, None].expand(-1, 2)
    x = 59 - (torch.arange(1200) % 10).double()[:, None].expand(-1, 2)  # which are rare, and then one category
    assert measures.pairs(real, real, columns) == {"cramers_v": 0}
    assert measures.pairs(x, real, columns)["cramers_v"] == pytest.approx(1)


def test_what_is_learnt_from_samples_is_tested_on_real_rows() -> None:
    """The rule of the data is found from real rows, and its opposite from samples with the target flipped."""
    real = rows(400, 5, gap=0.0)
    task = measures.Task(COLUMNS, 3, real)
    train = rows(800, 6, gap=0.0)
    assert (task.name, task.score(train)["utility"] > 0.95) == ("accuracy", True)
    flipped = train.clone()
    flipped[:, 3] = 1 - flipped[:, 3]
    assert task.score(flipped)["utility"] < 0.05
    numbers = measures.Task(COLUMNS, 1, real)
    assert (numbers.name, 0.4 < numbers.score(train)["utility"] < 0.8) == ("R²", True)  # 1.5² / (1.5² + 1)
    assert task.score(train[:5]) == {}
    # 40 categories whose odd ones are true: splits of categories find them at once, of numbers one by one
    of_category = [Column(name="k", type="category", values=tuple(map(str, range(40)))), COLUMNS[3]]
    k = torch.arange(400).double() % 40
    table = torch.stack([k, k % 2], 1)
    assert measures.Task(of_category, 1, table).score(table)["utility"] == 1


def test_copied_rows_are_closer_than_held_out_ones() -> None:
    data = dataset()
    found = measures.privacy(data, data.train.x[:100], data.test.x)
    assert found["closest"]["value"] == found["closest_5th"]["value"] == 0
    assert found["closest"]["reference"]["value"] > found["closest_5th"]["reference"]["value"] > 0
    fresh = measures.privacy(data, rows(2000, 9), data.test.x)
    assert fresh["closest"]["value"] == pytest.approx(fresh["closest"]["reference"]["value"], rel=0.3)


def test_the_closest_row_is_at_its_euclidean_distance() -> None:
    """The median and the fifth percentile of it, of standardised numbers. Kills: its square."""
    x = torch.randn(50, 2)
    table = Dataset(
        name="t",
        space=Space.continuous((2,), loc=(0.0, 0.0), scale=(2.0, 0.5)),
        **dict.fromkeys(("train", "validation", "test"), Split(x)),
        split="",
    )
    samples = 3 * torch.randn(40, 2)
    found = measures.privacy(table, samples, x)
    unit = torch.tensor([2.0, 0.5])
    closest = torch.cdist((samples / unit).double(), (x / unit).double()).amin(1)
    assert found["closest"]["value"] == pytest.approx(
        float(closest.median().item() / 2 + closest.sort().values[20] / 2)
    )
    assert found["closest_5th"]["value"] == pytest.approx(float(closest.quantile(0.05)))


def test_samples_of_the_data_have_the_values_of_held_out_rows() -> None:
    data = dataset(1200)
    found = measures.of_table(data, rows(200, 10), data.test.x, HeldOut(data))
    for name in ("total_variation", "kolmogorov_smirnov", "correlation", "cramers_v", "utility"):
        level = found["measures"][name]["reference"]
        assert level["low"] <= level["value"] <= level["high"]
        # of one pair of 200 rows, whose Cramér's V has a standard deviation of 0.07
        assert abs(found["measures"][name]["value"] - level["value"]) < (0.2 if name == "cramers_v" else 0.08), name
    assert found["target"] == {"column": "d", "score": "accuracy", "n": 200}
    assert measures.spread([1.0, 2.0, 6.0]) == {"value": 3.0, "low": 1.0, "high": 6.0}
    (first, *_) = found["columns"]
    assert set(first) == {"column", "measure", "value", "reference"}


def test_a_target_that_is_learnt_wrongly_is_wrong_on_real_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of samples with the target flipped. Kills: a test on the samples."""
    monkeypatch.setattr(measures, "DRAWS", 1)
    flipped, data = rows(200, 11, gap=0.0), dataset(800)
    flipped[:, 3] = 1 - flipped[:, 3]
    found = measures.of_table(data, flipped, data.test.x, HeldOut(data))["measures"]["utility"]
    assert found["value"] < 0.3 < 0.7 < found["reference"]["value"]


def test_an_evaluation_of_a_table_has_them() -> None:
    model = create("gmm", SPACE, components=1)
    found: dict[str, Any] = evaluate(model, dataset(), samples=80, target="c")
    assert found["table"]["target"]["column"] == "c"
    assert not found["skipped"]
    with pytest.raises(UnknownName, match="no column of this table is called 'e'"):
        evaluate(model, dataset(), samples=40, target="e")
    plain = Dataset(**{**vars(dataset()), "columns": ()})
    assert "table" not in evaluate(model, plain, samples=40)
    with pytest.raises(BadInput, match="a target is a column of a table"):
        evaluate(model, plain, samples=40, target="a")


def test_the_measures_are_shown_beside_held_out_rows(tmp_path: Path) -> None:
    """By `dgm compare`, with a row of held-out rows, and by `dgm evaluate`, with another target."""
    lines = [f"{a:.4f},{int(b)},{'xyz'[int(c)]}" for a, b, c, _ in rows(200, 0, gap=0.0).tolist()]
    (tmp_path / "t.csv").write_text("a,b,c\n" + "\n".join(lines) + "\n", encoding="utf-8")
    done = dgm("compare --data t.csv --models gmm,kde --budget 0.2s --samples 20 --out both", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "held-out rows" in done.stdout
    report = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "Kolmogorov-Smirnov" in report
    assert "Closest row" in report
    done = dgm("evaluate both/kde/seed-0 --data t.csv --samples 20 --target a", tmp_path)
    assert "tested on real rows: R² of 'a'" in done.stdout
    assert "distance to the closest training row, of samples and of held-out rows" in done.stdout
