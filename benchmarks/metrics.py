"""Kernel distance beside torchmetrics, and precision, recall, density and coverage beside prdc, 10,000 samples a side.

torchmetrics takes 100 random subsets of 1,000 out of 10,000; two disjoint halves have the same variance where the
distributions are equal, which `tests/evaluation/test_distances.py` holds.
"""

from __future__ import annotations

import contextlib
import io
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from prdc import compute_prdc
from timing import figure, in_turn, no_arguments, seconds
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from dgm.evaluation.kernel import kernel_distance_of_parts
from dgm.evaluation.neighbours import precision_recall_density_coverage

N, SUBSETS, SIZE, ROUNDS = 10_000, 100, 1_000, 3


def peers(x: Tensor, y: Tensor, k: int) -> dict[str, Any]:
    """prdc prints the sizes, where a benchmark prints its figures alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(x.numpy(), y.numpy(), nearest_k=k)  # type: ignore[no-any-return]


def cpu_seconds(work: Callable[[], Any]) -> float:
    """prdc starts eight threads, which take more of a busy machine than one."""
    return seconds(work, time.process_time)


def of_subsets(x: Tensor, y: Tensor) -> Tensor:
    """torchmetrics' KernelInceptionDistance, of features that are there already."""
    rows = [[torch.randperm(len(v))[:SIZE] for v in (x, y)] for _ in range(SUBSETS)]
    return torch.stack([poly_mmd(x[a], y[b], 3, None, 1.0) for a, b in rows]).mean()


def kernel() -> None:
    x, y = torch.randn(N, 2048).relu(), (1.05 * torch.randn(N, 2048)).relu()
    found, expected = float(kernel_distance_of_parts(x, y)), float(of_subsets(x, y))
    assert abs(found - expected) < 0.1 * expected, (found, expected)
    in_turn(
        "CPU time: kernel distance of 2,048 features, 10,000 samples a side, at the variance of 100 subsets of 1,000; "
        "peer: torchmetrics",
        partial(cpu_seconds, lambda: kernel_distance_of_parts(x, y)),
        partial(cpu_seconds, lambda: of_subsets(x, y)),
        rounds=ROUNDS,
    )


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def neighbours() -> None:
    x, y = torch.randn(N, 64, dtype=torch.float64), 0.9 * torch.randn(N, 64, dtype=torch.float64) + 0.1
    before = mebibytes()
    found = precision_recall_density_coverage(x, y)
    ours = mebibytes() - before
    expected = [peers(x, y, k) for k in (3, 5)]
    of_papers = [expected[0]["precision"], expected[0]["recall"], expected[1]["density"], expected[1]["coverage"]]
    assert torch.allclose(torch.stack(found), torch.tensor(of_papers).double(), rtol=1e-12), (found, of_papers)
    what = "CPU time: precision, recall, density and coverage of 64 features, 10,000 samples a side"
    in_turn(
        f"{what}; peer: prdc, of one neighbour's number where ours has two",
        partial(cpu_seconds, lambda: precision_recall_density_coverage(x, y)),
        partial(cpu_seconds, lambda: peers(x, y, 5)),
        rounds=ROUNDS,
    )
    figure(f"{what.replace('CPU time', 'Memory')}; peer: prdc", ours, mebibytes() - before, "MiB")


def main() -> None:
    torch.manual_seed(0)
    neighbours()
    kernel()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
