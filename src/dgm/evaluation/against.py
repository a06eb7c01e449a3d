"""Samples against samples: two models, two data sets, or a model and a data set, in every feature space."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.distances import MEASURES, Measure, Row, interval, rows
from dgm.evaluation.divergences import (
    FUNCTIONS,
    Estimate,
    by_quadrature,
    classifier_bound,
    f_divergence,
    fisher_divergence,
    neighbour_kl,
    score_of,
)
from dgm.evaluation.evaluate import provenance
from dgm.evaluation.features import Features, default_features, features, refuse_unusable
from dgm.evaluation.jackknife import Folds, LeftOut, folds, half_width, left_out, left_out_in_pairs
from dgm.evaluation.kernel import KERNELS, kernel_left_out, median_distance, permutation_p
from dgm.evaluation.samples import FEWEST
from dgm.evaluation.sides import Side, checked
from dgm.evaluation.skipping import Skipped
from dgm.evaluation.transport import MOST, sliced_wasserstein, wasserstein
from dgm.evaluation.two_sample import held_out_log_ratios, two_sample_test
from dgm.inputs import refuse_twice
from dgm.progress import Progress, silent

FORMAT = 1
Z = 1.96
POINTS, MARGIN = 400, 0.5  # cells along each side of a quadrature; its margin around all examples, as a share of them
KERNEL_ROWS = {"kernel": "cubic", "energy_distance": "energy"} | {
    f"mmd_{name}": name for name in KERNELS if name not in ("cubic", "energy")
}


def of_kernel(name: str) -> Measure:
    def of(b: Folds, a: Folds) -> LeftOut:
        return kernel_left_out(b, a, KERNELS[KERNEL_ROWS[name]](median_distance(torch.cat([*b, *a]))))

    return Measure((name,), of, (None,))


def transported(b: Folds, a: Folds) -> LeftOut:
    return left_out_in_pairs(lambda y, x: torch.stack([sliced_wasserstein(x, y)]), b, a)


def exactly_transported(b: Folds, a: Folds) -> LeftOut:
    return left_out_in_pairs(lambda y, x: torch.stack([wasserstein(x, y)]), b, a)


def neighbours(b: Folds, a: Folds) -> LeftOut:
    def both(y: Folds, x: Folds) -> Tensor:
        of_y, of_x = torch.cat(list(y)), torch.cat(list(x))
        return torch.stack([neighbour_kl(of_x, of_y), neighbour_kl(of_y, of_x)])

    return left_out(both, b, a)


OF_PAIRS = (
    *MEASURES,
    *(of_kernel(name) for name in KERNEL_ROWS if name != "kernel"),
    Measure(("sliced_wasserstein",), transported, (None,)),
    Measure(("wasserstein",), exactly_transported, (None,)),
    Measure(("neighbour_kl", "neighbour_reverse_kl"), neighbours, (None, None)),
)


def against(
    a: Side, b: Side, *, samples: int = 1000, spaces: list[str] | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Measures of two sides, A in the place of samples and B in that of real data; D(A || B) is meant.

    Args:
        samples: Examples of each side, at most; both have as many.
        spaces: Feature spaces, by default all that B's data allows; they are fitted on the data of B.
        progress: Called with the completed fraction and a description of the next part.

    Returns:
        A JSON-serialisable document: ``a``, ``b``, ``n``, ``rows``, ``features``, ``skipped`` and ``provenance``. A row
        has its value, a 95 % interval and its method, ``p`` where it is a test, and as ``reference`` the same measure
        of other examples of B in A's place.

    Raises:
        BadInput: If the sides cannot be compared, are the same examples or have fewer than 20, or nothing could be
            measured.
    """
    started = time.perf_counter()
    checked(a, b)
    refuse_twice("feature space", spaces or ())
    refuse_unusable(spaces or (), b.dataset)
    n = int(min(samples, a.most(), b.most()))
    if n < FEWEST:
        raise BadInput(f"a comparison needs at least {FEWEST} examples of each, there are {n}", "give larger ones")
    progress(0.0, "sampling")
    x, y = a.draw(n), b.draw(n)
    if torch.equal(x, y):
        raise BadInput(f"{a.name} and {b.name} are the same examples", "give two different ones, or another split")
    skipped, names = Skipped(), default_features(b.dataset) if spaces is None else spaces
    document: dict[str, Any] = {"format": FORMAT, "n": n, "features": {}, "rows": []}
    document |= {key: {"name": side.name, "what": side.description(n)} for key, side in (("a", a), ("b", b))}
    with skipped.on_failure("divergences of known densities"):
        document["rows"] += of_densities(a, b, x, y, skipped)
    progress(0.2, "other examples of B")
    others = b.others(n) if names else []
    for k, name in enumerate(names):
        progress(0.2 + 0.8 * k / len(names), f"{name} features")
        with skipped.on_failure(f"{name} features"):
            space = features(name, b.dataset)
            document["features"][name] = space.about
            document["rows"] += in_features(space, x, y, others, skipped)
    if not document["rows"]:
        reason = skipped[0]["reason"] if skipped else "they have no features and no known densities"
        raise BadInput(f"nothing could be measured: {reason}", "compare others, or in other features")
    progress(1.0, "done")
    seconds = round(time.perf_counter() - started, 2)
    return document | {"skipped": list(skipped), "provenance": provenance(a.seed) | {"seconds": seconds}}


def in_features(space: Features, x: Tensor, y: Tensor, others: list[Tensor], skipped: Skipped) -> list[Row]:
    """Every measure in one feature space."""
    of_a, of_b, of_others = space.of(x), space.of(y), [space.of(other) for other in others]
    result: list[Row] = []
    for measure in OF_PAIRS:
        with skipped.on_failure(f"{', '.join(measure.names).replace('_', ' ')} in {space.name} features"):
            if "wasserstein" in measure.names and len(of_a) > MOST:
                skipped.add("wasserstein", f"an exact distance takes at most {MOST:,} examples")
                continue
            found = measure.of(folds(of_b), folds(of_a))
            made = rows(measure, found, references(measure, of_b, of_others), skipped, space.name)
            result += [row | tested(row["name"], of_a, of_b) for row in made]
    with skipped.on_failure(f"the classifier in {space.name} features"):
        result += with_references(by_classifier(of_a, of_b), [by_classifier(other, of_b) for other in of_others[:1]])
    return [row | {"features": space.name, "n": len(x)} for row in result]


def tested(name: str, of_a: Tensor, of_b: Tensor) -> Row:
    """The p-value of a kernel's discrepancy; of at most `MOST` examples each."""
    if name not in KERNEL_ROWS:
        return {}
    of_a, of_b = of_a[:MOST], of_b[:MOST]
    kernel = KERNELS[KERNEL_ROWS[name]](median_distance(torch.cat([of_b, of_a])))
    return {"p": permutation_p(of_a, of_b, kernel)}


def references(measure: Measure, of_b: Tensor, of_others: list[Tensor]) -> dict[str, Row]:
    """The measure of other examples of B: the mean of several draws, with the interval of one draw around it."""
    if not of_others:
        return {}
    half = half_width(measure.of(folds(of_b), folds(of_others[0]))).tolist()
    # in folds as well, so that the bandwidth and the pairs are those of the first draw
    values = torch.stack([value_of(measure, of_b, other) for other in of_others]).mean(0).tolist()
    return {name: interval(name, values[k], half[k]) for k, name in enumerate(measure.names)}


def value_of(measure: Measure, of_b: Tensor, other: Tensor) -> Tensor:
    return measure.of([of_b], [other]).value


def by_classifier(of_a: Tensor, of_b: Tensor) -> list[Row]:
    """The accuracy of a classifier between the two, and its lower bounds of the divergences."""
    at_a, at_b = held_out_log_ratios(of_a, of_b)
    test = two_sample_test(at_a, at_b)
    accuracy: Row = {"name": "two_sample_accuracy", "value": test.accuracy, "low": test.low, "high": test.high}
    accuracy |= {"p": test.p, "interval": f"95 %, binomial, of {test.n:,} held-out examples"}
    bounds = [
        estimated(name, classifier_bound(f, at_a, at_b), "lower bound by a classifier on held-out examples")
        for name, f in FUNCTIONS.items()
    ]
    return [accuracy, *bounds]


def with_references(made: list[Row], others: list[list[Row]]) -> list[Row]:
    if not others:
        return [row | {"reference": None} for row in made]
    kept = ("value", "low", "high")
    return [row | {"reference": {key: other[key] for key in kept}} for row, other in zip(made, others[0], strict=True)]


def estimated(name: str, estimate: Estimate, method: str) -> Row:
    value, half = float(estimate.value), Z * float(estimate.error)
    row = {"name": name, "value": value, "low": value - half, "high": value + half, "method": method}
    return row | {"interval": "95 %, normal, over held-out examples" if "classifier" in method else "95 %, normal"}


def of_densities(a: Side, b: Side, x: Tensor, y: Tensor, skipped: Skipped) -> list[Row]:
    """Divergences where both densities are known: from samples of both, by quadrature in a plane, and of scores."""
    result: list[Row] = []
    if (p := a.log_prob) and (q := b.log_prob):
        at_a, at_b = p(x) - q(x), p(y) - q(y)
        for name, f in FUNCTIONS.items():
            result.append(estimated(name, f_divergence(f, at_a, at_b), "both densities are known, at samples of both"))
        if a.space.kind == "continuous" and a.space.dim <= 2:
            result += quadrature(a, b, torch.cat([x, y]))
    if (of_a := a.log_density) and (of_b := b.log_density):
        with skipped.on_failure("fisher of known densities"):  # of a density in steps there is no score
            scores = [score_of(log_density, x).double().cpu() for log_density in (of_a, of_b)]
            result.append(estimated("fisher", fisher_divergence(*scores), "both scores are known, at samples of A"))
    for row in [row for row in result if not row["high"] < float("inf")]:
        skipped.add(f"{row['name'].replace('_', ' ')} of known densities", "infinite: one density is 0 at samples")
    finite = [row for row in result if row["high"] < float("inf")]
    return [row | {"features": "density", "n": len(x), "reference": None} for row in finite]


def quadrature(a: Side, b: Side, points: Tensor) -> list[Row]:
    """The divergences as sums over cells of a grid around all examples, with the mass of each density on it."""
    flat = points.double().flatten(1)
    low, high = flat.min(0).values, flat.max(0).values
    low, width = low - MARGIN * (high - low), (1 + 2 * MARGIN) * (high - low)
    middles = [edge + size * (torch.arange(POINTS) + 0.5) / POINTS for edge, size in zip(low, width, strict=True)]
    grid = torch.cartesian_prod(*middles).view(-1, *points.shape[1:]).to(points.dtype)
    cell = float((width / POINTS).prod())
    assert a.log_prob is not None
    assert b.log_prob is not None
    log_p, log_q = a.log_prob(grid), b.log_prob(grid)
    masses = " and ".join(f"{float(part.double().exp().sum() * cell):.4f}" for part in (log_p, log_q))
    method = f"both densities are known, by quadrature on {POINTS}² cells" if len(width) > 1 else "by quadrature"
    return [
        estimated(name, by_quadrature(f, log_p, log_q, cell), f"{method}, where their masses are {masses}")
        for name, f in FUNCTIONS.items()
    ]
