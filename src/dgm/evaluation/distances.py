"""Metrics of samples in one feature space, each with its interval and with a reference value of held-out data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dgm.data.dataset import fingerprint
from dgm.data.table import cache
from dgm.documents import read_object
from dgm.evaluation.features import Features
from dgm.evaluation.frechet import frechet_and_infinity
from dgm.evaluation.held_out import HeldOut
from dgm.evaluation.jackknife import FOLDS, Folds, LeftOut, folds, half_width, left_out
from dgm.evaluation.kernel import kernel_left_out
from dgm.evaluation.neighbours import K_COVERAGE, K_PRECISION, coverage_left_out
from dgm.evaluation.score import inception_score
from dgm.evaluation.skipping import Skipped
from dgm.files import write_json

DRAWS = 20  # draws of held-out examples for a reference value
SHARES = ("precision", "recall", "coverage")
NOT_NEGATIVE = (*SHARES, "frechet", "density", "wasserstein", "sliced_wasserstein")
INTERVAL = f"95 %, a jackknife that leaves out a tenth of the real examples or of the samples at a time ({FOLDS} each)"

VERSION = 2  # of the code behind the cached reference values

Row: TypeAlias = dict[str, Any]
Progress: TypeAlias = Callable[[float], None]


@dataclass(frozen=True)
class Measure:
    """Metrics that are computed together from two sets of features.

    Attributes:
        names: The name of each metric.
        of: Computes the metrics from folds of real examples and of samples, also without each fold.
        k: The neighbour that each metric uses; None for metrics without neighbours.
    """

    names: tuple[str, ...]
    of: Callable[[Folds, Folds], LeftOut]
    k: tuple[int | None, ...]


def scores(real: Folds, log_p: Folds) -> LeftOut:
    """The inception score of the samples; it does not depend on real examples."""
    found = left_out(lambda _, kept: torch.stack(inception_score(torch.cat(list(kept)))), [torch.empty(0)], log_p)
    return LeftOut(found.value, found.real[:0], found.generated)


def distances(real: Folds, generated: Folds) -> LeftOut:
    return left_out(frechet_and_infinity, real, generated)


MEASURES = (
    Measure(("kernel",), kernel_left_out, (None,)),
    Measure(("frechet", "frechet_infinity"), distances, (None, None)),
    Measure(
        ("precision", "recall", "density", "coverage"),
        coverage_left_out,
        (K_PRECISION, K_PRECISION, K_COVERAGE, K_COVERAGE),
    ),
)
SCORES = Measure(("inception_score", "sharpness", "diversity"), scores, (None, None, None))


def metrics(
    space: Features, real: Tensor, generated: Tensor, pool: HeldOut, split: str, skipped: Skipped, progress: Progress
) -> list[Row]:
    """All metrics, each with its interval and its reference value: the metric of held-out real examples.

    Args:
        real: (N, *shape), examples of the evaluated split.
        generated: (M, *shape).
        pool: Real examples from outside that split.
        skipped: Collects the metrics that fail.
    """
    with skipped.on_failure(f"{space.name} features"):
        a, b = space.of(real), views(space, generated)
        reference_rows = references(space, a, pool, len(generated), progress)
        result = []
        for measure, kind in measures_of(space):
            what = f"{', '.join(measure.names).replace('_', ' ')} in {space.name} features"
            with skipped.on_failure(what):
                result += rows(measure, measure.of(folds(a), folds(b[kind])), reference_rows, skipped, space.name)
        common = {"features": space.name, "n_real": len(real), "n_generated": len(generated), "split": split}
        return [row | common for row in result]
    return []


def measures_of(space: Features) -> list[tuple[Measure, str]]:
    """The measures of a feature space, each with the view of the samples that it needs."""
    return [(measure, "features") for measure in MEASURES] + ([(SCORES, "log_p")] if space.log_p else [])


def views(space: Features, x: Tensor) -> dict[str, Tensor]:
    return {"features": space.of(x)} | ({"log_p": space.log_p(x)} if space.log_p else {})


def rows(
    measure: Measure, estimates: LeftOut, reference_rows: dict[str, Row], skipped: Skipped, features: str
) -> list[Row]:
    made = []
    for name, k, value, half in zip(
        measure.names, measure.k, estimates.value.tolist(), half_width(estimates).tolist(), strict=True
    ):
        if not (math.isfinite(value) and math.isfinite(half)):
            skipped.add(f"{name.replace('_', ' ')} in {features} features", "too few examples, or features not finite")
            continue
        row = {"name": name, **interval(name, value, half), "interval": INTERVAL, "reference": reference_rows.get(name)}
        made.append(row | ({"k": k} if k else {}))
    return made


def interval(name: str, value: float, half: float) -> dict[str, float]:
    """A value and its interval, clipped to the range of the metric: [0, 1] for shares, non-negative for distances."""
    least, most = 0.0 if name in NOT_NEGATIVE else -math.inf, 1.0 if name in SHARES else math.inf
    return {"value": value, "low": max(least, value - half), "high": min(most, value + half)}


def references(space: Features, real: Tensor, pool: HeldOut, n: int, progress: Progress) -> dict[str, Row]:
    """The metrics of ``n`` held-out examples in place of samples, by name; empty where there are fewer examples.

    The value is the mean over `DRAWS` draws. The interval is that of one draw, around the mean: the range of a model
    that samples from the data distribution. The result is cached, since it depends on no model.

    Args:
        real: (N, D) features of the evaluated split.
    """
    if len(pool) < n:
        return {}
    generated = views(space, pool.draw(n, 0))
    parts = [VERSION, DRAWS, *(fingerprint(x) for x in (real, *generated.values()))]
    path = cache() / "references" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(measured_references(space, real, pool, n, progress), path)
    return read_object(path)


def measured_references(space: Features, real: Tensor, pool: HeldOut, n: int, progress: Progress) -> dict[str, Row]:
    values: dict[str, list[float]] = {}
    halves: dict[str, float] = {}
    for draw in range(DRAWS):
        progress(draw / DRAWS)
        x = views(space, pool.draw(n, draw))
        for measure, kind in measures_of(space):
            with Skipped().on_failure("reference"):  # a failure here occurs for the samples too, and is reported there
                if draw == 0:
                    half = half_width(measure.of(folds(real), folds(x[kind]))).tolist()
                    halves |= zip(measure.names, half, strict=True)
                for name, value in zip(measure.names, measure.of([real], [x[kind]]).value.tolist(), strict=True):
                    values.setdefault(name, []).append(value)
    means = {name: sum(drawn) / len(drawn) for name, drawn in values.items()}
    finite = [name for name in means if math.isfinite(means[name]) and math.isfinite(halves.get(name, math.nan))]
    return {name: interval(name, means[name], halves[name]) for name in finite}
