"""The Fréchet distance of 2,048 features, 10,000 samples a side, beside scipy's matrix square root."""

from __future__ import annotations

import json
import statistics
import time

import numpy
import scipy.linalg
import torch

from dgm.evaluation.frechet import frechet_distance

ROUNDS = 3


def by_sqrtm(x: torch.Tensor, y: torch.Tensor) -> float:
    a, b = (numpy.cov(v.numpy(), rowvar=False) for v in (x, y))
    root = scipy.linalg.sqrtm(a @ b)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + numpy.trace(a + b - 2 * root.real))


def main() -> None:
    torch.manual_seed(0)
    mix = torch.randn(2048, 2048, dtype=torch.float64) / 45
    x = torch.randn(10_000, 2048, dtype=torch.float64) @ mix
    y = torch.randn(10_000, 2048, dtype=torch.float64) @ mix * 1.1 + 0.1
    ours, peer = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        value = float(frechet_distance(x, y))
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        expected = by_sqrtm(x, y)
        peer.append(time.perf_counter() - started)
        assert abs(value - expected) < 1e-6 * expected, (value, expected)
    a, b = statistics.median(ours), statistics.median(peer)
    name = "Fréchet distance, 2,048 features, 10,000 samples; peer: scipy.linalg.sqrtm"
    print(json.dumps({"name": name, "ours": a, "peer": b, "ratio": a / b, "unit": "s"}))


if __name__ == "__main__":
    main()
