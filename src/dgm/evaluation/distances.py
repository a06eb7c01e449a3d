"""Samples beside real examples in one feature space: each number with its interval, beside that of real examples."""

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
from dgm.evaluation.features import Features
from dgm.evaluation.frechet import frechet_and_infinity
from dgm.evaluation.held_out import HeldOut
from dgm.evaluation.jackknife import FOLDS, Folds, LeftOut, folds, half_width, left_out
from dgm.evaluation.kernel import kernel_left_out
from dgm.evaluation.neighbours import K_COVERAGE, K_PRECISION, coverage_left_out
from dgm.evaluation.score import inception_score
from dgm.evaluation.skipping import Skipped
from dgm.runs import read_object, write_json

DRAWS = 20  # of held-out examples in the samples' place
SHARES = ("precision", "recall", "coverage")
INTERVAL = f"95 %, a jackknife that leaves out a tenth of the real examples or of the samples at a time ({FOLDS} each)"

VERSION = 2  # of what the cached numbers are made by

Row: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[float], None]


@dataclass(frozen=True)
class Measure:
    """Some numbers of two sets of features.

    Attributes:
        names: What each number is called.
        of: The numbers of real examples and samples, also without each fold.
        k: Which neighbour each takes, where it takes any.
    """

    names: tuple[str, ...]
    of: Callable[[Folds, Folds], LeftOut]
    k: tuple[int | None, ...]


def scores(real: Folds, log_p: Folds) -> LeftOut:
    """The score of the samples, which no real example enters."""
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
    space: Features, real: Tensor, generated: Tensor, pool: HeldOut, split: str, skipped: Skipped, tell: Tell
) -> list[Row]:
    """Every number with its interval, and with what held-out real examples get in the samples' place.

    Args:
        real: (N, *shape) of the split that samples are set beside.
        generated: (M, *shape).
        pool: Real examples that are not of that split.
        skipped: Takes what cannot be measured.
    """
    with skipped.on_failure(f"{space.name} features"):
        a, b = space.of(real), views(space, generated)
        levels = references(space, a, pool, len(generated), tell)
        found = []
        for measure, kind in asked(space):
            what = f"{', '.join(measure.names).replace('_', ' ')} in {space.name} features"
            with skipped.on_failure(what):
                found += rows(measure, measure.of(folds(a), folds(b[kind])), levels, skipped, space.name)
        common = {"features": space.name, "n_real": len(real), "n_generated": len(generated), "split": split}
        return [row | common for row in found]
    return []


def asked(space: Features) -> list[tuple[Measure, str]]:
    """The measures of a feature space, each with the view of the samples that it takes."""
    return [(measure, "features") for measure in MEASURES] + ([(SCORES, "log_p")] if space.log_p else [])


def views(space: Features, x: Tensor) -> dict[str, Tensor]:
    return {"features": space.of(x)} | ({"log_p": space.log_p(x)} if space.log_p else {})


def rows(measure: Measure, found: LeftOut, levels: dict[str, Row], skipped: Skipped, features: str) -> list[Row]:
    made = []
    for name, k, value, half in zip(
        measure.names, measure.k, found.value.tolist(), half_width(found).tolist(), strict=True
    ):
        if not (math.isfinite(value) and math.isfinite(half)):
            skipped.add(f"{name.replace('_', ' ')} in {features} features", "too few examples, or features not finite")
            continue
        row = {"name": name, **interval(name, value, half), "interval": INTERVAL, "reference": levels.get(name)}
        made.append(row | ({"k": k} if k else {}))
    return made


def interval(name: str, value: float, half: float) -> dict[str, float]:
    """A value and its interval's ends, which a share cannot have outside [0, 1], nor a distance or density below 0."""
    least, most = 0.0 if name in (*SHARES, "frechet", "density") else -math.inf, 1.0 if name in SHARES else math.inf
    return {"value": value, "low": max(least, value - half), "high": min(most, value + half)}


def references(space: Features, real: Tensor, pool: HeldOut, n: int, tell: Tell) -> dict[str, Row]:
    """What ``n`` held-out examples get in the samples' place, by the number's name; nothing where there are too few.

    The value is the mean over `DRAWS` draws. The interval is that of one draw, around the mean: where the number of a
    model that samples the data itself would lie. Kept in the user's cache, since it depends on no model.

    Args:
        real: (N, D) features of the real side.
    """
    if len(pool) < n:
        return {}
    first = views(space, pool.draw(n, 0))
    parts = [VERSION, DRAWS, *(fingerprint(x) for x in (real, *first.values()))]
    path = cache() / "references" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(drawn_references(space, real, pool, n, tell), path)
    return read_object(path)


def drawn_references(space: Features, real: Tensor, pool: HeldOut, n: int, tell: Tell) -> dict[str, Row]:
    values: dict[str, list[float]] = {}
    halves: dict[str, float] = {}
    for draw in range(DRAWS):
        tell(draw / DRAWS)
        x = views(space, pool.draw(n, draw))
        for measure, kind in asked(space):
            with Skipped().on_failure("reference"):  # what fails here fails for the samples too, and is said there
                if draw == 0:
                    half = half_width(measure.of(folds(real), folds(x[kind]))).tolist()
                    halves |= zip(measure.names, half, strict=True)
                for name, value in zip(measure.names, measure.of([real], [x[kind]]).value.tolist(), strict=True):
                    values.setdefault(name, []).append(value)
    means = {name: sum(found) / len(found) for name, found in values.items()}
    finite = [name for name in means if math.isfinite(means[name]) and math.isfinite(halves.get(name, math.nan))]
    return {name: interval(name, means[name], halves[name]) for name in finite}
