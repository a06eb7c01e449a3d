"""The measures of samples: distances in feature spaces, memorisation, duplicates, modes, agreement with conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgm.data import Dataset, Split
from dgm.evaluation.columns import of_table
from dgm.evaluation.distances import DRAWS, metrics
from dgm.evaluation.features import default_features, features
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.evaluation.memorisation import TRAINING, memorisation
from dgm.evaluation.modes import duplicates, modes
from dgm.evaluation.skipping import Skipped
from dgm.memory import refuse_too_large
from dgm.modes import device_of
from dgm.progress import Progress, within
from dgm.protocols import Model
from dgm.sampling import sample

# measured memory of the distances in bytes: blocks, for each sample, and copies, for each number of a sample
BLOCKS, COPIES = 100_000, 64
FEWEST = 20  # held-out examples, at least, for a reference value


def timed_sample(model: Model, n: int, seed: int, y: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
    started = time.perf_counter()
    x = sample(model, n, y, seed=seed)
    seconds = time.perf_counter() - started
    about = {"n": n, "seed": seed, "seconds": seconds, "per_second": n / seconds, "device": str(device_of(model))}
    return x, about | {"threads": torch.get_num_threads()}


def refuse_distances_beyond_memory(pool: HeldOut, samples: int) -> None:
    """Checks the memory that the distances need before samples are drawn, which may take long."""
    dataset = pool.dataset
    if dataset.space.kind == "tokens":
        return
    n, others = samples_compared(samples, pool), min(len(dataset.train), TRAINING)
    needed = n * (BLOCKS + COPIES * dataset.space.dim) + 16 * dataset.space.dim * (samples + others)
    refuse_too_large(f"measuring {samples:,} samples", needed, "ask for fewer")


def samples_compared(samples: int, pool: HeldOut) -> int:
    """Number of samples used by distances: that of the held-out examples, unless these are too few."""
    return min(samples, len(pool)) if len(pool) >= FEWEST else samples


def measure_samples(
    document: dict[str, Any],
    x: Tensor,
    y: Tensor | None,
    pool: HeldOut,
    real: Split,
    spaces: list[str] | None,
    skipped: Skipped,
    progress: Progress,
    target: str | None = None,
) -> None:
    """Adds the metrics of samples to ``document``: distances in each feature space, memorised samples and found labels.

    Args:
        y: The conditions of the samples, if there are any.
        pool: Held-out examples of the data set for the reference.
        real: The real examples that samples are compared with.
        target: The column of a table to predict.
    """
    dataset, split = pool.dataset, pool.split
    names = default_features(dataset) if spaces is None else spaces
    n = samples_compared(len(x), pool)
    fixed = real.x[drawn_rows(real.y if dataset.labels else None, len(real), min(n, len(real)), 0)]
    document |= {"memorisation": None, "duplicates": None, "modes": None, "agreement": None}
    if names:
        document["reference"] = {
            "real": f"{len(fixed):,} of the {split} split",
            "n": n,
            "of": pool.description(),
            "draws": DRAWS,
        }
    for k, name in enumerate(names):
        start, step = 0.6 + 0.3 * k / len(names), 0.15 / len(names)
        progress(start, f"{name} features")
        with skipped.on_failure(f"{name} features"):
            space = features(name, dataset, part_of(progress, start, step, "training the classifier"))
            document["features"][name] = space.about
            progress_of = part_of(progress, start + step, step, f"real data in {name} features")
            document["metrics"] += metrics(space, fixed, x[:n], pool, split, skipped, progress_of)
    progress(0.9, "memorisation")
    if dataset.space.kind != "tokens":
        with skipped.on_failure("memorisation"):
            spaces_used = [name for name in document["features"] if name != "pixels"]
            document["memorisation"] = memorisation(dataset, x, real.x, spaces_used)
        with skipped.on_failure("duplicates"):
            document["duplicates"] = duplicates(dataset, x, real.x)
    if dataset.columns:
        with skipped.on_failure("the columns of the table"):
            document["table"] = of_table(dataset, x, real.x, pool, target=target)
    if "classifier" in document["features"]:
        with skipped.on_failure("agreement with the conditions"):
            document["agreement"] = agreement(dataset, x, y, real)
    if pool.condition is None and ("classifier" in document["features"] or dataset.modes or dataset.channels):
        with skipped.on_failure("modes"):
            document["modes"] = modes(dataset, x)


def part_of(progress: Progress, start: float, size: float, text: str) -> Callable[[float], None]:
    """The progress callback of one part of the evaluation."""
    part = within(progress, start, size)
    return lambda share: part(share, text)


def agreement(dataset: Dataset, samples: Tensor, y: Tensor | None, held_out: Split) -> dict[str, Any] | None:
    """The accuracy of the classifier on samples, whose label is their condition, and on real examples.

    Returns:
        The two accuracies, for attributes the mean over all of them; None for samples without a condition.
    """
    space = features("classifier", dataset)
    if space.guess is None or y is None or held_out.y is None:
        return None
    share = float((space.guess(samples) == y).double().mean())
    real = float((space.guess(held_out.x) == held_out.y).double().mean())
    what = "labels" if dataset.labels else "attributes"
    return {"share": share, "held_out_share": real, "rule": f"{what} that the classifier predicts for the samples"}
