"""The evaluation of a trained model, as one document."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dgm import __version__, torchrun
from dgm.data import Dataset, Split, order
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.evaluation.annealed import (
    CHAINS,
    EXAMPLES,
    annealed_at,
    annealed_likelihood,
    bracket_in_words,
    constant_in_words,
    constant_of,
    examples_within,
    refuse_without_densities,
)
from dgm.evaluation.calibration import calibration, posterior_calibration
from dgm.evaluation.classification import classification
from dgm.evaluation.codebook import codebook_usage
from dgm.evaluation.collapse import codes_in_use
from dgm.evaluation.columns import of_table, refuse_target
from dgm.evaluation.distances import DRAWS, metrics
from dgm.evaluation.downstream import downstream_accuracy
from dgm.evaluation.features import NAMES, default_features, features
from dgm.evaluation.held_out import HeldOut, drawn_rows
from dgm.evaluation.memorisation import TRAINING, memorisation
from dgm.evaluation.mixing import mixing
from dgm.evaluation.modes import duplicates, modes
from dgm.evaluation.observation import (
    SAMPLES,
    Observed,
    chosen_noise,
    density_of_samples,
    means_of,
)
from dgm.evaluation.pretrained import refuse_without_extra
from dgm.evaluation.representation import judged
from dgm.evaluation.skipping import Skipped
from dgm.inputs import model_given, of_type, whole
from dgm.likelihood import Kind, Likelihood, kinds_of, log_likelihood
from dgm.memory import refuse_too_large
from dgm.models.gan.base import Implicit
from dgm.modes import device_of
from dgm.networks.conditions import labels_of, marginal_of
from dgm.progress import Progress, silent, within
from dgm.protocols import CodeDivergence, ImportanceWeighted, JointDensity, Model, Samplable, condition_of, has
from dgm.samplers.flow_density import Trace, ode_of
from dgm.samplers.ode import Solver
from dgm.sampling import sample
from dgm.seeds import Streams, mix
from dgm.space import Space

LIKELIHOODS = 0.3  # approximate fraction of an evaluation's time
UNANNEALED = 0.2  # the same of all but annealed importance sampling, where it is asked for; it comes last
IMPORTANCE_DRAWS = 16
# an estimate solves an ODE for each example: of at least so many examples, and of at most so many numbers beyond that
ESTIMATED, ESTIMATED_NUMBERS = 250, 16_000
OF_CONDITIONS = 1  # index of the random streams of the conditions
# measured memory of the distances in bytes: blocks, for each sample, and copies, for each number of a sample
BLOCKS, COPIES = 100_000, 64

FORMAT = 2
FEWEST = 20  # held-out examples, at least, for a reference value


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
    solver: Solver | None = None,
    tolerance: float | None = None,
    solver_steps: int | None = None,
    trace: Trace | None = None,
    annealed: int = 0,
    target: str | None = None,
    downstream: bool = False,
    progress: Progress = silent,
    on_interrupt: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Evaluate a trained model: likelihood, sample quality, coverage, memorisation and speed.

    Args:
        samples: Number of samples. Distances use at most as many samples as there are examples for the reference, and
            the same number of examples of the split, or all of them.
        split: The split of the real examples.
        spaces: Feature spaces: pixels, pca and classifier; by default all that the data allows.
        draws: Random draws for each example, for bounds and estimates.
        annealed: Temperatures of annealed importance sampling: of a model with a code or a generator, of up to 100
            examples, fewer of an expensive decoder, with the bracket of as many simulated ones, 0 for none; of a model
            with an unknown log Z, 0 for its own number.
        target: The column of a table that gradient boosting predicts after training on samples; by default the last.
        downstream: Also train a classifier on the samples and test it on real examples, of images with labels.
        marginal: Compute log p(x) of a conditional model, summed over its labels, instead of log p(x|y).
        condition: One condition, (*shape): samples are drawn given it and compared with the examples that have it.
        solver: The solver of the ODE of an estimate; see `log_likelihood`, also for ``tolerance``, ``solver_steps`` and
            ``trace``.
        progress: Called with the completed fraction and a description of the next part.
        on_interrupt: Called with the results so far if the evaluation is interrupted; the interruption is then raised
            again.

    Returns:
        A JSON-serialisable document: ``likelihood``, ``samples``, ``metrics``, ``reference``, ``memorisation``,
        ``duplicates``, ``modes``, of a table ``table``, ``features``, ``skipped`` and ``provenance``. Every metric has
        its value, a 95 % interval over samples and real examples, its method, N, split and feature space, and as its
        ``reference`` the same metric of held-out real examples in place of samples. A metric that fails is listed in
        ``skipped`` with the reason.

    Raises:
        BadInput: If nothing could be measured, or no example of the split has the condition.
    """
    started = time.perf_counter()
    check_arguments(model, dataset, split, spaces, marginal=marginal, condition=condition)
    samples, draws, seed = whole("samples", samples, low=1), whole("draws", draws, low=1), whole("the seed", seed)
    ode: dict[str, Any] = {"solver": solver, "tolerance": tolerance, "solver_steps": solver_steps, "trace": trace}
    refuse_target(dataset, target)
    if annealed and not isinstance(model, Implicit):
        refuse_without_densities(model)
    ode_of(model, **ode)  # raises the error for arguments that the model does not support
    pool = HeldOut(dataset, split, condition)
    refuse_distances_beyond_memory(pool, samples)
    real = dataset.splits[split] if condition is None else dataset.splits[split].given(condition)
    skipped = Skipped()
    document: dict[str, Any] = {"format": FORMAT, "likelihood": [], "metrics": [], "reference": None, "features": {}}

    def finished(**how: bool) -> dict[str, Any]:
        seconds = round(time.perf_counter() - started, 2)
        return document | {"skipped": list(skipped), "provenance": provenance(seed) | {"seconds": seconds}} | how

    coded = annealed and (isinstance(model, Implicit) or has(model, JointDensity))
    whole_progress, progress = progress, within(progress, 0.0, UNANNEALED if coded else 1.0)
    try:
        with torch.random.fork_rng(), skipped.on_failure("likelihood"), annealed_at(model, annealed):
            torch.manual_seed(seed)
            for row in likelihoods(
                model, real.x, real.y, split, draws, seed, progress, marginal=marginal, skipped=skipped, ode=ode
            ):
                document["likelihood"].append(row)
            if constant_of(model) is not None and (annealed or Kind.EXACT not in kinds_of(model)):
                document["constant"] = constant_in_words(model, given_conditions(model, real))
        with skipped.on_failure("the chains"):
            if found := mixing(model, conditions_to_draw(model, 1, seed, condition), seed):
                document["mixing"] = found
        with torch.random.fork_rng(), skipped.on_failure("codes"):
            torch.manual_seed(seed)
            measure_codes(document, model, real, split, seed)
        with torch.random.fork_rng(), skipped.on_failure("classification"):
            torch.manual_seed(seed)
            if labelled := classification(model, real, split):
                document["classification"] = labelled
        with skipped.on_failure("calibration"):
            if columns := calibration(model, dataset, split, seed):
                document["calibration"] = columns
        with skipped.on_failure("codes beside labels"):
            if found := judged(model, dataset, split, seed):
                document["representation"] = found
        if has(model, Samplable):
            with skipped.on_failure("samples"):
                progress(LIKELIHOODS, "sampling")
                y = conditions_to_draw(model, samples, seed, condition)
                x, document["samples"] = timed_sample(model, samples, seed, y)
                document["samples"] |= {} if condition is None else {"condition": condition.tolist()}
                if torchrun.is_first():  # the other processes have done their share
                    measure_samples(
                        document, x, y, HeldOut(dataset, split, condition), real, spaces, skipped, progress, target
                    )
                if torchrun.is_first() and downstream:
                    with skipped.on_failure("downstream accuracy"):
                        of = part_of(progress, 0.95, 0.05, "classifiers of samples and of real examples")
                        document["downstream"] = downstream_accuracy(dataset, x, y, real, of)
        with torch.random.fork_rng(), skipped.on_failure("annealed importance sampling"):
            torch.manual_seed(seed)
            if coded:
                anneal(
                    document,
                    model,
                    dataset,
                    real,
                    split,
                    seed,
                    annealed,
                    within(whole_progress, UNANNEALED, 1 - UNANNEALED),
                )
    except KeyboardInterrupt:
        skipped.add("all later measures", "the evaluation was interrupted")
        if on_interrupt is not None and (document["likelihood"] or "samples" in document):
            on_interrupt(finished(interrupted=True))
        raise
    if skipped and not document["likelihood"] and "samples" not in document:
        raise BadInput(f"nothing could be measured: {skipped[0]['reason']}", "check the run and the split")
    whole_progress(1.0, "done")
    return finished()


def measure_codes(document: dict[str, Any], model: Model, real: Split, split: str, seed: int) -> None:
    """Adds the use of the code to the document."""
    if has(model, CodeDivergence):
        document["codes"] = codes_in_use(model, real.x, real.y, seed)
    if ranked := posterior_calibration(model, seed):
        document["posterior"] = ranked
    if usage := codebook_usage(model, real, split):
        document["codebook"] = usage


def anneal(
    document: dict[str, Any],
    model: Any,
    dataset: Dataset,
    real: Split,
    split: str,
    seed: int,
    annealed: int,
    progress: Progress,
) -> None:
    """Adds annealed importance sampling: of held-out examples, then of simulated ones; of a GAN beside the kernel
    density of its samples. What is finished is in the document if the rest is interrupted.
    """
    x, into, rows = real.x, document, document["likelihood"]
    if isinstance(model, Implicit):
        x = model.dequantised(real.x.to(device_of(model)))
        samples = means_of(model, SAMPLES, seed)
        held = (dataset.validation if len(dataset.validation) else dataset.train).x[:1000]
        sigma = chosen_noise(model, model.dequantised(held.to(x.device)), samples)
        rows = [row_of(density_of_samples(model, x, sigma, samples), len(real), split, CHAINS)]
        rule = f"samples with N(0, {sigma:.3g}²) noise, which has the best validation value, in scaled data"
        into = document["observed"] = {"sigma": sigma, "rule": rule, "likelihood": rows}
        model = Observed(model, sigma)
    n = examples_within(model, x, real.y, annealed)
    y = None if real.y is None else real.y[:n]
    held_out, simulated = within(progress, 0.0, 1 / 3), within(progress, 1 / 3, 2 / 3)
    rows.append(
        row_of(annealed_likelihood(model, x[:n], y, temperatures=annealed, progress=held_out), len(real), split, CHAINS)
    )
    into["bracket"] = bracket_in_words(model, n, annealed, seed, simulated)


def given_conditions(model: Model, real: Split) -> Tensor | None:
    """The different conditions of the examples, `EXAMPLES` at most; None for an unconditional model."""
    if condition_of(model) is None or real.y is None:
        return None
    return real.y[:EXAMPLES].unique(dim=0).to(device_of(model))


def check_arguments(
    model: Model,
    dataset: Dataset,
    split: str,
    spaces: list[str] | None,
    *,
    marginal: bool,
    condition: Tensor | None = None,
) -> None:
    """Checks all arguments before the evaluation, which may take long."""
    model_given(model)
    of_type("the data", dataset, Dataset, "load it by dgm.data.load, which takes arrays and tables too")
    if model.space != dataset.space:
        raise BadInput(f"the model is of {model.space}, the data of {dataset.space}", "give the data of the model")
    conditional_on = condition_of(model)
    if conditional_on not in (None, dataset.condition):
        wrong = f"the model's condition is {conditional_on}, the data's {dataset.condition or 'none'}"
        raise BadInput(wrong, "give the data of the model")
    if split not in dataset.splits:
        raise UnknownName.of("split", str(split), dataset.splits)
    if isinstance(spaces, str):
        raise BadInput(f"spaces must be a list of names, got '{spaces}'", f"give ['{spaces}']")
    for name in spaces or ():
        if name not in NAMES:
            raise UnknownName.of("feature space", str(name), NAMES)
    refuse_without_extra(spaces or ())
    if marginal and not labels_of(model):
        raise Unsupported("this model has no labels: its likelihood is log p(x) already", "leave marginal out")
    if marginal and not kinds_of(model):
        raise Unsupported("this model has no likelihood to sum over labels", "leave marginal out")
    if condition is not None and conditional_on is None:
        raise Unsupported("this model was trained without a condition", "leave the condition out")
    if condition is not None and len(dataset.splits[split].given(condition)) < 2:
        raise BadInput(f"fewer than 2 examples of the {split} split have this condition", "choose another")


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
    """Adds the metrics of samples to ``found``: distances in each feature space, memorised samples and found labels.

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
    ode: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of log-likelihoods, one for each informative kind that the model has.

    An exact log-likelihood alone if there is one; otherwise a lower bound, also with importance weights, and an
    estimate, which uses a subset of many examples if each needs an ODE; an unnormalised log-density only where there
    is nothing else.

    Args:
        skipped: Collects the kinds that fail; without it a failure is raised.
        ode: Arguments of `log_likelihood` for the ODE of an estimate.
    """
    y = y if condition_of(model) is not None else None
    requested = []
    for kind in reported_kinds(kinds_of(model)):
        requested.append((kind, draws))
        if kind is Kind.LOWER_BOUND and has(model, ImportanceWeighted):
            requested.append((kind, IMPORTANCE_DRAWS))
    for k, (kind, count) in enumerate(requested):

        def progress_of(share: float, text: str, k: int = k, kind: Kind = kind) -> None:
            progress(LIKELIHOODS * (k + share) / len(requested), str(kind).replace("_", " "))

        rows = torch.arange(len(x))
        if kind is Kind.ESTIMATE and constant_of(model) is None:
            rows = order(len(x), seed, 0)[: max(ESTIMATED, ESTIMATED_NUMBERS // model.space.dim)].sort().values
        with nullcontext() if skipped is None else skipped.on_failure(str(kind).replace("_", " ")):
            how = dict(ode or {}) if kind is Kind.ESTIMATE else {}
            yield likelihood(model, x, y, split, count, kind, rows, progress_of, marginal=marginal, **how)


def reported_kinds(kinds: list[Kind]) -> list[Kind]:
    """
    >>> reported_kinds([Kind.LOWER_BOUND, Kind.ESTIMATE, Kind.UNNORMALISED]) == [Kind.LOWER_BOUND, Kind.ESTIMATE]
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
    progress_of: Progress,
    *,
    marginal: bool = False,
    **ode: Any,
) -> dict[str, Any]:
    """One kind of log-likelihood of the examples ``rows``, with its standard error over examples and random draws."""
    labels = None if y is None or marginal else y[rows]
    how: dict[str, Any] = {"draws": draws, "kind": kind, "marginal": marginal, "progress": progress_of}
    return row_of(log_likelihood(model, x[rows], labels, **how, **ode), len(x), split, draws)


def row_of(result: Likelihood, of: int, split: str, draws: int) -> dict[str, Any]:
    """The mean of a batch's likelihood, with its standard error, for the document."""
    nats = result.nats.double()
    error, bits = float(nats.std() / math.sqrt(len(nats))), 1 / (result.dim * math.log(2))
    mean = float(nats.mean())
    return {
        "kind": str(result.kind),
        "condition": result.condition,
        "method": result.method,
        "nats": mean,
        "nats_se": error,
        "bits_per_dim": -mean * bits,
        "bits_per_dim_se": error * bits,
        "perplexity": math.exp(-mean / result.dim),
        "n": len(nats),
        "of": of,
        "split": split,
        "draws": draws,
    }


def conditions_to_draw(model: Model, n: int, seed: int, condition: Tensor | None = None) -> Tensor | None:
    """(n, *shape), drawn from the model's p(y) unless one is given; None for a model without a condition."""
    space: Space | None = condition_of(model)
    if space is None:
        return None
    if condition is not None:
        return condition.expand(n, *space.shape)
    # separate random streams: with those of the samples' noise, x would depend on the draws of y
    return marginal_of(model).draw(Streams(mix(seed, OF_CONDITIONS), range(n), device_of(model))).cpu()


def timed_sample(model: Model, n: int, seed: int, y: Tensor | None = None) -> tuple[Tensor, dict[str, Any]]:
    started = time.perf_counter()
    x = sample(model, n, y, seed=seed)
    seconds = time.perf_counter() - started
    about = {"n": n, "seed": seed, "seconds": seconds, "per_second": n / seconds, "device": str(device_of(model))}
    return x, about | {"threads": torch.get_num_threads()}


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
