"""Intervals by a jackknife of ten folds a side, 1,000 examples a side, beside all distances computed anew a fold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor

from dgm.evaluation.jackknife import Folds, LeftOut, folds, left_out
from dgm.evaluation.kernel import kernel_distance, kernel_left_out
from dgm.evaluation.neighbours import coverage_left_out, precision_recall_density_coverage

ROUNDS = 5


def anew(measure: Callable[[Tensor, Tensor], Tensor], real: Folds, generated: Folds) -> LeftOut:
    return left_out(lambda x, y: measure(torch.cat(list(x)), torch.cat(list(y))), real, generated)


def compare(name: str, ours: Callable[[Folds, Folds], LeftOut], plain: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = folds(torch.randn(1000, 64, dtype=torch.float64))
    y = folds(torch.randn(1000, 64, dtype=torch.float64) * 0.9 + 0.1)
    for found, expected in zip(ours(x, y), anew(plain, x, y), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    what = f"{name} of 64 features with intervals, 1,000 examples a side"
    in_turn(
        f"{what}; peer: distances anew without each of the 20 folds",
        lambda: seconds(lambda: ours(x, y)),
        lambda: seconds(lambda: anew(plain, x, y)),
        rounds=ROUNDS,
        unit="ms",
    )


def main() -> None:
    torch.manual_seed(0)
    compare("kernel distance", kernel_left_out, lambda x, y: kernel_distance(x, y)[None])
    compare(
        "precision, recall, density, coverage",
        coverage_left_out,
        lambda x, y: torch.stack(precision_recall_density_coverage(x, y)),
    )


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
