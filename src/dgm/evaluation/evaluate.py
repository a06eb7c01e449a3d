"""All that is measured of a trained model, as one document."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dgm import __version__
from dgm.data import Dataset, Split, order
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.evaluation.distances import DRAWS, metrics
from dgm.evaluation.features import NAMES, default_features, features
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.evaluation.neighbours import copies
from dgm.evaluation.skipping import Skipped
from dgm.inputs import model_given, of_type, whole
from dgm.likelihood import Kind, kinds_of, log_likelihood
from dgm.memory import refuse_what_does_not_fit
from dgm.modes import device_of
from dgm.networks.conditions import labels_of, marginal_of
from dgm.protocols import ImportanceWeighted, Model, Samplable, has
from dgm.sampling import sample
from dgm.seeds import Streams, mix
from dgm.space import Space

LIKELIHOODS = 0.3  # of an evaluation's time, or so
IMPORTANCE_DRAWS = 16
# an estimate solves an ODE for each example: it is of at least so many examples, and of all that have so many numbers
ESTIMATED, ESTIMATED_NUMBERS = 250, 16_000
MODE_SHARE = 0.1  # of a class's share in the training data, from which on it counts as found
OF_CONDITIONS = 1  # the number of their streams beside the samples' own
SHOWN = 10  # samples whose nearest training examples are named

TRAINING = 20_000  # training examples, at most, that copies are looked for among
# bytes that were seen to be taken at once by distances: of blocks, for each sample, and for each number of each
BLOCKS, COPIES = 100_000, 64

FORMAT = 2
FEWEST = 20  # held-out examples, for a level of real data to be worth its place

Progress = Callable[[float, str], None]


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
    condition: Tensor | None = None,
    progress: Progress = silent,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Likelihood, quality, coverage, copies and speed of a trained model.

    Args:
        samples: How many are drawn. Distances take as many of them as there are held-out examples to set beside, and
            as many examples of the split, or all there are.
        split: Which split is real.
        spaces: Feature spaces, of pixels, pca and classifier; by default all that the data allows.
        draws: Random draws an example, for likelihoods that take any.
        marginal: Of a conditional model log p(x), summed over its labels, in place of log p(x|y).
        condition: One condition, (*shape): samples are drawn under it, and beside them are the examples that have it.
        progress: Called with the share done and what comes next.
        keep: Called with what was measured so far where the evaluation is interrupted, before that is passed on.

    Returns:
        Plain values, fit for JSON: ``likelihood``, ``samples``, ``metrics``, ``reference``, ``memorisation``,
        ``modes``, ``features``, ``skipped`` and ``provenance``. Every metric has its value, a 95 % interval over
        samples and real examples, how it was made, N, split and feature space, and as its ``reference`` the same number
        with held-out real examples in the samples' place. A measure that fails is in ``skipped`` with the reason.

    Raises:
        BadInput: Where nothing at all could be measured, or no example of the split has the condition.
    """
    started = time.perf_counter()
    refuse_what_cannot_be(model, dataset, split, spaces, marginal=marginal, condition=condition)
    samples, draws, seed = whole("samples", samples, low=1), whole("draws", draws, low=1), whole("the seed", seed)
    pool = HeldOut(dataset, split, condition)
    refuse_distances_beyond_memory(pool, samples)
    real = dataset.splits[split] if condition is None else dataset.splits[split].having(condition)
    skipped = Skipped()
    document: dict[str, Any] = {"format": FORMAT, "likelihood": [], "metrics": [], "reference": None, "features": {}}

    def ended(**how: bool) -> dict[str, Any]:
        seconds = round(time.perf_counter() - started, 2)
        return document | {"skipped": list(skipped), "provenance": provenance(seed) | {"seconds": seconds}} | how

    try:
        with torch.random.fork_rng(), skipped.on_failure("likelihood"):
            torch.manual_seed(seed)
            for row in likelihoods(
                model, real.x, real.y, split, draws, seed, progress, marginal=marginal, skipped=skipped
            ):
                document["likelihood"].append(row)
        if has(model, Samplable):
            with skipped.on_failure("samples"):
                progress(LIKELIHOODS, "sampling")
                y = conditions_to_draw(model, samples, seed, condition)
                x, document["samples"] = drawn(model, samples, seed, y)
                of_samples(document, x, y, HeldOut(dataset, split, condition), real, spaces, skipped, progress)
    except KeyboardInterrupt:
        skipped.add("what comes after", "the evaluation was interrupted")
        if keep is not None and (document["likelihood"] or "samples" in document):
            keep(ended(interrupted=True))
        raise
    if skipped and not document["likelihood"] and "samples" not in document:
        raise BadInput(f"nothing could be measured: {skipped[0]['reason']}", "check the run and the split")
    progress(1.0, "done")
    return ended()


def refuse_what_cannot_be(
    model: Model,
    dataset: Dataset,
    split: str,
    spaces: list[str] | None,
    *,
    marginal: bool,
    condition: Tensor | None = None,
) -> None:
    """Before anything is measured, which may take long."""
    model_given(model)
    of_type("the data", dataset, Dataset, "load it by dgm.data.load, which takes arrays and tables too")
    if model.space != dataset.space:
        raise BadInput(f"the model is of {model.space}, the data of {dataset.space}", "give the data of the model")
    conditional_on = getattr(model, "condition", None)
    if conditional_on not in (None, dataset.condition):
        wrong = f"the model's condition is {conditional_on}, the data's {dataset.condition or 'none'}"
        raise BadInput(wrong, "give the data of the model")
    if split not in dataset.splits:
        raise UnknownName.of("split", str(split), dataset.splits)
    for name in spaces or ():
        if name not in NAMES:
            raise UnknownName.of("feature space", str(name), NAMES)
    if marginal and not labels_of(model):
        raise Unsupported("this model has no labels: its likelihood is log p(x) already", "leave marginal out")
    if condition is not None and conditional_on is None:
        raise Unsupported("this model was trained without a condition", "leave the condition out")
    if condition is not None and len(dataset.splits[split].having(condition)) < 2:
        raise BadInput(f"fewer than 2 examples of the {split} split have this condition", "choose another")


def refuse_distances_beyond_memory(pool: HeldOut, samples: int) -> None:
    """Before samples are drawn, which may take long."""
    dataset = pool.dataset
    if dataset.space.kind == "tokens":
        return
    n, others = beside(samples, pool), min(len(dataset.train), TRAINING)
    needed = n * (BLOCKS + COPIES * dataset.space.dim) + 16 * dataset.space.dim * (samples + others)
    refuse_what_does_not_fit(f"measuring {samples:,} samples", needed, "ask for fewer")


def beside(samples: int, pool: HeldOut) -> int:
    """How many of the samples distances take: as many as there are held-out examples, where these are not few."""
    return min(samples, len(pool)) if len(pool) >= FEWEST else samples


def of_samples(
    found: dict[str, Any],
    x: Tensor,
    y: Tensor | None,
    pool: HeldOut,
    real: Split,
    spaces: list[str] | None,
    skipped: Skipped,
    progress: Progress,
) -> None:
    """What samples say, into ``found`` as it is measured: distances in each feature space, copies and labels found.

    Args:
        y: The conditions that the samples were drawn under, if any.
        pool: Held-out examples that may be put in the samples' place, of the whole data set.
        real: What samples are set beside.
    """
    dataset, split = pool.dataset, pool.split
    names = default_features(dataset) if spaces is None else spaces
    n = beside(len(x), pool)
    fixed = real.x[drawn_rows(real.y if dataset.labels else None, len(real), min(n, len(real)), 0)]
    found |= {"memorisation": None, "modes": None, "agreement": None}
    if names:
        found["reference"] = {
            "real": f"{len(fixed):,} of the {split} split",
            "n": n,
            "of": pool.words(),
            "draws": DRAWS,
        }
    for k, name in enumerate(names):
        start, step = 0.6 + 0.3 * k / len(names), 0.15 / len(names)
        progress(start, f"{name} features")
        with skipped.on_failure(f"{name} features"):
            space = features(name, dataset, within(progress, start, step, "training the classifier"))
            found["features"][name] = space.about
            tell = within(progress, start + step, step, f"real data in {name} features")
            found["metrics"] += metrics(space, fixed, x[:n], pool, split, skipped, tell)
    progress(0.9, "copies")
    if dataset.space.kind != "tokens":
        with skipped.on_failure("copies"):
            found["memorisation"] = memorisation(dataset, x, real.x)
    if "classifier" in found["features"]:
        with skipped.on_failure("agreement with the conditions"):
            found["agreement"] = agreement(dataset, x, y, real)
    if "classifier" in found["features"] and pool.condition is None:
        with skipped.on_failure("labels found"):
            found["modes"] = modes(dataset, x)


def within(progress: Progress, start: float, size: float, text: str) -> Callable[[float], None]:
    """Tells the share of a part of the work as the share of all of it."""
    return lambda share: progress(start + size * share, text)


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
    skipped: Skipped | None = None,
) -> Iterator[dict[str, Any]]:
    """Every kind that says more than another of the model's: an exact one alone, else a bound, tighter with importance
    weights, and an estimate, of a part of the examples where they are many; an energy where there is nothing else.

    Args:
        skipped: Takes the kinds that fail; without it a failure is raised.
    """
    y = y if getattr(model, "condition", None) is not None else None
    asked = []
    for kind in telling(kinds_of(model)):
        asked.append((kind, draws))
        if kind is Kind.LOWER_BOUND and has(model, ImportanceWeighted):
            asked.append((kind, IMPORTANCE_DRAWS))
    for k, (kind, count) in enumerate(asked):

        def tell(share: float, k: int = k, kind: Kind = kind) -> None:
            progress(LIKELIHOODS * (k + share) / len(asked), str(kind).replace("_", " "))

        rows = torch.arange(len(x))
        if kind is Kind.ESTIMATE:
            rows = order(len(x), seed, 0)[: max(ESTIMATED, ESTIMATED_NUMBERS // model.space.dim)].sort().values
        with nullcontext() if skipped is None else skipped.on_failure(str(kind).replace("_", " ")):
            yield likelihood(model, x, y, split, count, kind, rows, tell, marginal=marginal)


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


def conditions_to_draw(model: Model, n: int, seed: int, condition: Tensor | None = None) -> Tensor | None:
    """(n, *shape), drawn from the model's p(y) unless one is given; None for a model without a condition."""
    space: Space | None = getattr(model, "condition", None)
    if space is None:
        return None
    if condition is not None:
        return condition.expand(n, *space.shape)
    # streams of their own: those of the samples' noise would make x depend on how y was drawn
    return marginal_of(model).draw(Streams(mix(seed, OF_CONDITIONS), range(n), device_of(model))).cpu()


def drawn(model: Model, n: int, seed: int, y: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
    started = time.perf_counter()
    x = sample(model, n, y, seed=seed)
    seconds = time.perf_counter() - started
    about = {"n": n, "seed": seed, "seconds": seconds, "per_second": n / seconds, "device": str(device_of(model))}
    return x, about | {"threads": torch.get_num_threads()}


def memorisation(dataset: Dataset, samples: Tensor, held_out: Tensor) -> dict[str, Any]:
    """The share of copies among samples, and among held-out examples, which cannot be copies."""
    space = features("pixels", dataset)
    training = space.of(dataset.train.x[:TRAINING])
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


def agreement(dataset: Dataset, samples: Tensor, y: Tensor | None, held_out: Split) -> dict[str, Any] | None:
    """How often the classifier sees in a sample the condition that it was drawn under, and in a real example its own.

    Returns:
        The shares, of attributes the mean over all of them; None for samples without a condition.
    """
    space = features("classifier", dataset)
    if space.guess is None or y is None or held_out.y is None:
        return None
    share = float((space.guess(samples) == y).double().mean())
    real = float((space.guess(held_out.x) == held_out.y).double().mean())
    what = "labels" if dataset.labels else "attributes"
    return {"share": share, "held_out_share": real, "rule": f"{what} as the classifier sees them in the samples"}


def provenance(seed: int) -> dict[str, Any]:
    return {
        "dgm": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)",
        "seed": seed,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
