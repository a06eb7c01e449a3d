r"""Measures of a table's samples: each column, each pair of columns, their use for training, and privacy.

* Total variation of a categorical column, 1/2 sum_k |p_k - q_k| over its categories, with a missing value as one more;
  the gaps of any other column are a column of two categories.
* Kolmogorov-Smirnov of a column of numbers, dates or times, sup_t |F(t) - G(t)|, of the known values.
* The difference of Pearson's correlation of two columns of numbers, over the rows that have both.
* The difference of Cramér's V of two categorical columns, (chi^2 / (n (min(r, c) - 1)))^(1/2).
* Train on synthetic, test on real: gradient boosting predicts the target column of the evaluated split after it was
  trained on the samples; its accuracy, or R^2 of a target of numbers.
* The distance of a sample to the closest training row, in standardised columns, beside that of held-out rows, at the
  median and at the 5th percentile. Samples that are closer than held-out rows are a sign that rows were copied.

The first four are means over the columns or the pairs, 0 for samples of the data distribution of unlimited number.
Every measure has the same measure of held-out real rows in the samples' place as its reference.

Source: Modeling tabular data using conditional GAN (Xu et al., 2019), arXiv:1907.00503, section 5.1, for training on
synthetic rows; TabDDPM (Kotelnikov et al., 2023), arXiv:2209.15421, section 4.1, for the distance to the closest row;
the others are textbook statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.data.columns import Column
from dgm.errors import BadInput, UnknownName
from dgm.evaluation.features import features
from dgm.evaluation.held_out import HeldOut
from dgm.evaluation.neighbours import nearest

DRAWS = 5  # of held-out rows for a reference
MOST = 50  # categories of a column in a pair; the others are one
TRAINING = 20_000  # training rows, at most, that distances are measured to
NATIVE = 254  # most categories of a column that gradient boosting takes as such
CLOSE = 0.05  # percentile of the distances to training rows
MEANS = ("total_variation", "kolmogorov_smirnov", "correlation", "cramers_v")


def of_table(
    dataset: Dataset, samples: Tensor, real: Tensor, pool: HeldOut, *, target: str | None = None
) -> dict[str, Any]:
    """The measures of samples (M, D) beside real rows (N, D).

    Args:
        pool: Real rows for the references.
        target: The name of the column to predict; by default the last one.

    Returns:
        ``measures``, a value for each name with the ``reference``'s value, low and high over its draws, None where
        there are too few held-out rows; ``columns``, the value and the reference of each column; ``target``, the
        predicted column; and ``rule``.
    """
    n = min(len(samples), len(pool))
    drawn = [pool.draw(n, seed).flatten(1).double() for seed in range(DRAWS)] if n >= DRAWS else []
    x, real = samples[:n].flatten(1).double(), real.flatten(1).double()
    columns, place = dataset.columns, target_of(dataset.columns, target)
    of_samples, *of_held_out = [by_column(part, real, columns) for part in (x, *drawn)]
    task = Task(columns, place, real)
    whole, *references = (
        {**means(part), **pairs(of, real, columns), **task.score(of)}
        for of, part in zip((x, *drawn), (of_samples, *of_held_out), strict=True)
    )
    measures = {
        name: {"value": value, "reference": spread([r[name] for r in references if name in r])}
        for name, value in whole.items()
    }
    return {
        "n": n,
        "n_real": len(real),
        "measures": measures | privacy(dataset, samples, real),
        "columns": [
            {**one, "reference": spread([held[k]["value"] for held in of_held_out])} for k, one in enumerate(of_samples)
        ],
        "target": {"column": columns[place].name, "score": task.name, "n": n},
        "rule": f"held-out rows in the samples' place: {pool.description()}, the mean of {DRAWS} draws",
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def target_of(columns: Sequence[Column], target: str | None) -> int:
    names = [column.name for column in columns]
    if target is not None and target not in names:
        raise UnknownName.of("column of this table", target, names)
    return len(names) - 1 if target is None else names.index(target)


def by_column(x: Tensor, real: Tensor, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """One measure of each column, and that of the gaps of a column of numbers."""
    found = []
    for k, column in enumerate(columns):
        a, b = x[:, k], real[:, k]
        if column.values:
            value = total_variation(codes(a, len(column.values)), codes(b, len(column.values)), len(column.values) + 1)
            found.append({"column": column.name, "measure": "total_variation", "value": value})
            continue
        if a.isnan().any() or b.isnan().any():
            value = abs(float(a.isnan().double().mean() - b.isnan().double().mean()))
            found.append({"column": f"{column.name}, missing", "measure": "total_variation", "value": value})
        value = kolmogorov_smirnov(a[~a.isnan()], b[~b.isnan()])
        found.append({"column": column.name, "measure": "kolmogorov_smirnov", "value": value})
    return found


def codes(x: Tensor, missing: int) -> Tensor:
    """Categories as integers, with the number ``missing`` for NaN."""
    return x.nan_to_num(float(missing)).long()


def total_variation(a: Tensor, b: Tensor, values: int) -> float:
    p, q = (part.bincount(minlength=values).double() / max(1, len(part)) for part in (a, b))
    return float((p - q).abs().sum() / 2)


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> float:
    """sup_t |F(t) - G(t)|; 1 where one of them is empty.

    Example:
        >>> kolmogorov_smirnov(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        0.5
    """
    if not len(a) or not len(b):
        return float(len(a) != len(b))
    points = torch.cat([a, b]).sort().values
    f, g = (torch.searchsorted(part.sort().values, points, right=True).double() / len(part) for part in (a, b))
    return float((f - g).abs().max())


def means(columns: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean of each measure over its columns."""
    found: dict[str, list[float]] = {}
    for one in columns:
        found.setdefault(one["measure"], []).append(one["value"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def pairs(x: Tensor, real: Tensor, columns: Sequence[Column]) -> dict[str, float]:
    """The mean absolute differences of Pearson's correlations and of Cramér's V, where there are such pairs."""
    numbers = [k for k, column in enumerate(columns) if not column.values]
    categories = [k for k, column in enumerate(columns) if column.values]
    found = {}
    off = [abs(correlation(x[:, i], x[:, j]) - correlation(real[:, i], real[:, j])) for i, j in of_two(numbers)]
    if off:
        found["correlation"] = sum(off) / len(off)
    merged = {k: frequent(real[:, k], len(columns[k].values)) for k in categories}
    of_samples, of_real = (
        {k: number[codes(part[:, k], len(number) - 1)] for k, number in merged.items()} for part in (x, real)
    )
    off = [
        abs(cramers_v(of_samples[i], of_samples[j]) - cramers_v(of_real[i], of_real[j])) for i, j in of_two(categories)
    ]
    if off:
        found["cramers_v"] = sum(off) / len(off)
    return found


def of_two(places: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.combinations(places, 2))


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of the rows that have both; 0 where one of them never changes."""
    both = ~(a.isnan() | b.isnan())
    a, b = (part[both] - part[both].mean() for part in (a, b))
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(1e-300))


def frequent(x: Tensor, values: int) -> Tensor:
    """The number of each category, and of a missing value, in a table of pairs; rare categories share the last one."""
    counts = codes(x, values).bincount(minlength=values + 1)
    number = torch.full((values + 1,), MOST)
    first = counts.sort(descending=True, stable=True).indices[:MOST]
    number[first] = torch.arange(len(first))
    return number


def cramers_v(a: Tensor, b: Tensor) -> float:
    """(chi^2 / (n (min(r, c) - 1)))^(1/2), of the categories that occur; 0 where there is one of them.

    Example:
        >>> cramers_v(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2, 0, 0]))
        1.0
    """
    (_, a), (_, b) = (part.unique(return_inverse=True) for part in (a, b))
    r, c, n = int(a.max()) + 1, int(b.max()) + 1, len(a)
    if min(r, c) < 2:
        return 0.0
    joint = (a * c + b).bincount(minlength=r * c).view(r, c).double()
    expected = joint.sum(1, keepdim=True) * joint.sum(0) / n
    return float(((joint - expected).square() / expected).sum().div(n * (min(r, c) - 1)).sqrt())


class Task:
    """The prediction of one column from the others by gradient boosting, tested on real rows.

    Attributes:
        name: The score: accuracy, or R^2.
    """

    def __init__(self, columns: Sequence[Column], place: int, real: Tensor) -> None:
        self.others = [k for k in range(len(columns)) if k != place]
        self.place, self.classes = place, bool(columns[place].values)
        self.name = "accuracy" if self.classes else "R²"
        self.categorical = [0 < len(columns[k].values) <= NATIVE for k in self.others]
        self.test = self.known(real)

    def known(self, x: Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The other columns, and the target where it is known."""
        x = x[~x[:, self.place].isnan()]
        return x[:, self.others].numpy(), x[:, self.place].numpy()

    def score(self, x: Tensor) -> dict[str, float]:
        """The score after training on ``x``; nothing where there is nothing to predict or to predict by."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        inputs, target = self.known(x)
        if not self.others or len(target) < 10 or len(self.test[1]) < 2 or len(numpy.unique(target)) < 2:
            return {}
        of = HistGradientBoostingClassifier if self.classes else HistGradientBoostingRegressor
        fitted = of(categorical_features=self.categorical, random_state=0).fit(inputs, target)
        return {"utility": float(fitted.score(*self.test))}


def privacy(dataset: Dataset, samples: Tensor, real: Tensor) -> dict[str, Any]:
    """The distances to the closest training row, of samples and of held-out rows."""
    space = features("pixels", dataset)
    training = space.of(dataset.train.x[:TRAINING])
    of_samples, of_real = (
        nearest(space.of(part.to(dataset.train.x.dtype)), training, 1)[0][:, 0].sqrt() for part in (samples, real)
    )
    found = {}
    for name, share in (("closest", 0.5), ("closest_5th", CLOSE)):
        value, level = float(of_samples.quantile(share)), float(of_real.quantile(share))
        found[name] = {"value": value, "reference": {"value": level, "low": level, "high": level}}
    return found


def refuse_target(dataset: Dataset, target: str | None) -> None:
    """
    Raises:
        BadInput: If the data is not a table.
        UnknownName: If the table does not have this column.
    """
    if target is None:
        return
    if not dataset.columns:
        raise BadInput(f"a target is a column of a table, and this data is of {dataset.space}", "leave it out")
    target_of(dataset.columns, target)
