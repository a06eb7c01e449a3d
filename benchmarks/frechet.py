"""The Fréchet distance of 2,048 features, 10,000 samples a side, beside scipy's matrix square root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import scipy.linalg
import torch
from timing import in_turn, no_arguments, seconds

from dgm.evaluation.frechet import covariance, frechet_distance, root_trace

ROUNDS = 3
SIZE = "2,048 features"


def by_sqrtm(x: torch.Tensor, y: torch.Tensor) -> float:
    a, b = (numpy.cov(v.numpy(), rowvar=False) for v in (x, y))
    root = scipy.linalg.sqrtm(a @ b)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + numpy.trace(a + b - 2 * root.real))


def root_by_sqrtm(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(numpy.trace(scipy.linalg.sqrtm(a.numpy() @ b.numpy()).real))


def compare(name: str, ours: Callable[[], Any], peer: Callable[[], float]) -> None:
    values = float(ours()), peer()
    assert abs(values[0] - values[1]) < 1e-6 * values[1], values
    in_turn(name, lambda: seconds(ours), lambda: seconds(peer), rounds=ROUNDS)


def main() -> None:
    torch.manual_seed(0)
    mix = torch.randn(2048, 2048, dtype=torch.float64) / 45
    x = torch.randn(10_000, 2048, dtype=torch.float64) @ mix
    y = torch.randn(10_000, 2048, dtype=torch.float64) @ mix * 1.1 + 0.1
    a, b = covariance(x, x.mean(0)), covariance(y, y.mean(0))
    compare(
        f"Fréchet distance, {SIZE}, 10,000 samples, including the covariances; peer: scipy.linalg.sqrtm",
        lambda: frechet_distance(x, y),
        lambda: by_sqrtm(x, y),
    )
    compare(
        f"Fréchet distance, {SIZE}, without the covariances; peer: scipy.linalg.sqrtm",
        lambda: root_trace(a, b),
        lambda: root_by_sqrtm(a, b),
    )


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
