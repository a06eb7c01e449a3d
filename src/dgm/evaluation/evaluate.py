"""All that is measured of a trained model, as one document."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgm import __version__
from dgm.data import Dataset, order
from dgm.evaluation.features import Features, default_features, features
from dgm.evaluation.frechet import frechet_distance
from dgm.evaluation.kernel import kernel_distance
from dgm.evaluation.neighbours import copies, precision_recall_density_coverage
from dgm.evaluation.score import inception_score
from dgm.likelihood import Kind, kinds_of, log_likelihood
from dgm.modes import device_of
from dgm.protocols import ImportanceWeighted, Model, Samplable
from dgm.sampling import sample

LIKELIHOODS = 0.3  # of an evaluation's time, or so
NEIGHBOURS = 5
FOLDS = 10  # of the jackknife
IMPORTANCE_DRAWS = 16
# an estimate solves an ODE for each example: it is of at least so many examples, and of all that have so many numbers
ESTIMATED, ESTIMATED_NUMBERS = 250, 16_000
MODE_SHARE = 0.1  # of a class's share in the training data, from which on it counts as found
SHOWN = 10  # samples whose nearest training examples are named

Progress = Callable[[float, str], None]
Measure = Callable[[Tensor, Tensor], list[float]]
# the names of what each measure of two sets of features gives
DISTANCES: list[tuple[list[str], Measure]] = [
    (["frechet"], lambda real, generated: [float(frechet_distance(real, generated))]),
    (["kernel"], lambda real, generated: [float(kernel_distance(real, generated))]),
    (
        ["precision", "recall", "density", "coverage"],
        lambda real, generated: list(map(float, precision_recall_density_coverage(real, generated, NEIGHBOURS))),
    ),
]


def silent(fraction: float, text: str) -> None: ...


def evaluate(
    model: Model,
    dataset: Dataset,
    *,
    samples: int = 1000,
    split: str = "test",
    spaces: list[str] | None = None,
    draws: int = 1,
    seed: int = 0,
    marginal: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Likelihood, quality, coverage, copies and speed of a trained model.

    Args:
        samples: How many are drawn; distances take as many real examples, or all there are.
        split: Which split is real.
        spaces: Feature spaces, of pixels, pca and classifier; by default all that the data allows.
        draws: Random draws an example, for likelihoods that take any.
        marginal: Of a conditional model log p(x), summed over its labels, in place of log p(x|y).
        progress: Called with the share done and what comes next.

    Returns:
        Plain values, fit for JSON: ``likelihood``, ``samples``, ``metrics``, ``memorisation``, ``modes``, ``features``
        and ``provenance``. Every metric has its value, a 95 % interval and how it was made, N, split, feature space,
        and the same number for training examples in the samples' place: what a perfect sampler gets.
    """
    started = time.perf_counter()
    real = dataset.splits[split]
    document: dict[str, Any] = {"format": 1, "likelihood": [], "metrics": []}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        document["likelihood"] = likelihoods(model, real.x, real.y, split, draws, seed, progress, marginal=marginal)
    if isinstance(model, Samplable):
        progress(LIKELIHOODS, "sampling")
        x, document["samples"] = drawn(model, samples, seed)
        names = default_features(dataset) if spaces is None else spaces
        rows = order(len(dataset.train), seed, 0)[: len(x)]
        pretend, _ = dataset.train.batch(rows, torch.Generator().manual_seed(seed))
        document["features"] = {}
        for k, name in enumerate(names):
            progress(0.6 + 0.3 * k / len(names), f"{name} features")
            space = features(name, dataset)
            document["features"][name] = space.about
            document["metrics"] += metrics(space, real.x[order(len(real), seed, 0)[: len(x)]], x, pretend, split)
        progress(0.9, "copies")
        document["memorisation"] = None if dataset.space.kind == "tokens" else memorisation(dataset, x, real.x)
        document["modes"] = modes(dataset, x) if "classifier" in names else None
    document["provenance"] = provenance(seed) | {"seconds": round(time.perf_counter() - started, 2)}
    progress(1.0, "done")
    return document


def likelihoods(
    model: Model,
    x: Tensor,
    y: Tensor | None,
    split: str,
    draws: int,
    seed: int = 0,
    progress: Progress = silent,
    *,
    marginal: bool = False,
) -> list[dict[str, Any]]:
    """Every kind that says more than another of the model's: an exact one alone, else a bound, tighter with importance
    weights, and an estimate, of a part of the examples where they are many; an energy where there is nothing else.
    """
    y = y if getattr(model.config, "classes", 0) else None
    asked = []
    for kind in telling(kinds_of(model)):
        asked.append((kind, draws))
        if kind is Kind.LOWER_BOUND and isinstance(model, ImportanceWeighted):
            asked.append((kind, IMPORTANCE_DRAWS))
    found = []
    for k, (kind, count) in enumerate(asked):

        def tell(share: float, k: int = k, kind: Kind = kind) -> None:
            progress(LIKELIHOODS * (k + share) / len(asked), str(kind).replace("_", " "))

        rows = torch.arange(len(x))
        if kind is Kind.ESTIMATE:
            rows = order(len(x), seed, 0)[: max(ESTIMATED, ESTIMATED_NUMBERS // model.space.dim)].sort().values
        found.append(likelihood(model, x, y, split, count, kind, rows, tell, marginal=marginal))
    return found


def telling(kinds: list[Kind]) -> list[Kind]:
    """
    >>> telling([Kind.LOWER_BOUND, Kind.ESTIMATE, Kind.UNNORMALISED]) == [Kind.LOWER_BOUND, Kind.ESTIMATE]
    True
    """
    if Kind.EXACT in kinds:
        return [Kind.EXACT]
    return [kind for kind in kinds if kind is not Kind.UNNORMALISED] or kinds


def likelihood(
    model: Model,
    x: Tensor,
    y: Tensor | None,
    split: str,
    draws: int,
    kind: Kind,
    rows: Tensor,
    tell: Callable[[float], None],
    *,
    marginal: bool = False,
) -> dict[str, Any]:
    """One kind, of the examples in these rows, with the standard error over them and over what was drawn for them."""
    labels = None if y is None or marginal else y[rows]
    found = log_likelihood(model, x[rows], labels, draws=draws, kind=kind, marginal=marginal, progress=tell)
    nats = found.nats.double()
    error, bits = float(nats.std() / math.sqrt(len(nats))), 1 / (found.dim * math.log(2))
    mean = float(nats.mean())
    return {
        "kind": str(found.kind),
        "condition": found.condition,
        "method": found.method,
        "nats": mean,
        "nats_se": error,
        "bits_per_dim": -mean * bits,
        "bits_per_dim_se": error * bits,
        "perplexity": math.exp(-mean / found.dim),
        "n": len(nats),
        "of": len(x),
        "split": split,
        "draws": draws,
    }


def drawn(model: Model, n: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    started = time.perf_counter()
    x = sample(model, n, seed=seed)
    seconds = time.perf_counter() - started
    about = {"n": n, "seed": seed, "seconds": seconds, "per_second": n / seconds, "device": str(device_of(model))}
    return x, about | {"threads": torch.get_num_threads()}


def metrics(space: Features, real: Tensor, generated: Tensor, pretend: Tensor, split: str) -> list[dict[str, Any]]:
    """Each metric with its interval, beside what training examples get in the samples' place."""
    a, b, c = (space.of(x) for x in (real, generated, pretend))
    found = []
    for names, measure in DISTANCES:
        found += with_intervals(names, partial(compared, measure, a, b), len(b), measure(a, c))
    if space.log_p is not None:
        log_p = space.log_p(generated)
        names = ["inception_score", "sharpness", "diversity"]
        reference = list(map(float, inception_score(space.log_p(pretend))))
        found += with_intervals(names, lambda keep: list(map(float, inception_score(log_p[keep]))), len(b), reference)
    common = {"features": space.name, "n_real": len(a), "n_generated": len(b), "split": split, "k": NEIGHBOURS}
    return [row | common for row in found]


def compared(measure: Measure, real: Tensor, generated: Tensor, kept: Tensor) -> list[float]:
    return measure(real, generated[kept])


def with_intervals(
    names: list[str], measure: Callable[[Tensor], list[float]], n: int, reference: list[float]
) -> list[dict[str, Any]]:
    """Values over all samples, with 95 % intervals by a jackknife that leaves out a tenth of the samples at a time.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 11.5: the standard error of a
    delete-a-group jackknife is sqrt((g - 1) / g * sum (v_i - mean v)²).
    """
    values = torch.tensor(measure(torch.arange(n)), dtype=torch.float64)
    fold = torch.arange(n) % FOLDS
    left_out = torch.tensor([measure((fold != k).nonzero()[:, 0]) for k in range(FOLDS)], dtype=torch.float64)
    error = ((FOLDS - 1) / FOLDS * (left_out - left_out.mean(0)).square().sum(0)).sqrt()
    interval = f"jackknife over samples, {FOLDS} groups, 95 %"
    return [
        {"name": name, "value": v, **clipped(name, v, 1.96 * e), "interval": interval, "reference": r}
        for name, v, e, r in zip(names, values.tolist(), error.tolist(), reference, strict=True)
    ]


def clipped(name: str, value: float, half: float) -> dict[str, float]:
    """The interval's ends, which a share cannot have outside [0, 1]."""
    least, most = (0.0, 1.0) if name in ("precision", "recall", "coverage") else (-math.inf, math.inf)
    return {"low": max(least, value - half), "high": min(most, value + half)}


def memorisation(dataset: Dataset, samples: Tensor, held_out: Tensor) -> dict[str, Any]:
    """The share of copies among samples, and among held-out examples, which cannot be copies."""
    space = features("pixels", dataset)
    training = space.of(dataset.train.x[:20_000])
    found, level = copies(training, space.of(samples)), copies(training, space.of(held_out[: len(samples)]))
    rule = "nearer to a training example than 1/3 of that example's distance to the next training example, in pixels"
    return {
        "share": found.share,
        "exact": found.exact,
        "held_out_share": level.share,
        "held_out_exact": level.exact,
        "rule": rule,
        "nearest": found.nearest[:SHOWN].tolist(),
        "distance": found.distance[:SHOWN].tolist(),
        "median_distance": float(found.distance.median()),
        "held_out_median_distance": float(level.distance.median()),
        "n_train": len(training),
    }


def modes(dataset: Dataset, samples: Tensor) -> dict[str, Any] | None:
    """Which labels the classifier sees among the samples, beside their shares in the training data."""
    space = features("classifier", dataset)
    if space.log_p is None or dataset.train.y is None:
        return None
    classes = len(dataset.labels)
    share = space.log_p(samples).argmax(1).bincount(minlength=classes) / len(samples)
    expected = dataset.train.y.bincount(minlength=classes) / len(dataset.train)
    found = int((share > MODE_SHARE * expected).sum())
    distance = float((share - expected).abs().sum() / 2)
    rule = f"labels with more than {MODE_SHARE:.0%} of their training share"
    return {"found": found, "of": classes, "total_variation": distance, "shares": share.tolist(), "rule": rule}


def provenance(seed: int) -> dict[str, Any]:
    return {
        "dgm": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)",
        "seed": seed,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
