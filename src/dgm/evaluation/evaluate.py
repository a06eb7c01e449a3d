"""The evaluation of a trained model, as one document."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
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
from dgm.evaluation.columns import refuse_target
from dgm.evaluation.downstream import downstream_accuracy, refuse_without_labels
from dgm.evaluation.features import refuse_unusable
from dgm.evaluation.held_out import HeldOut
from dgm.evaluation.likelihoods import likelihoods, row_of
from dgm.evaluation.mixing import mixing
from dgm.evaluation.observation import (
    SAMPLES,
    Observed,
    chosen_noise,
    density_of_samples,
    means_of,
)
from dgm.evaluation.representation import judged
from dgm.evaluation.samples import (
    measure_samples,
    part_of,
    refuse_distances_beyond_memory,
    timed_sample,
)
from dgm.evaluation.skipping import Skipped
from dgm.inputs import model_given, of_type, random_seed, refuse_twice, whole
from dgm.likelihood import Kind, kinds_of
from dgm.memory import keep_freed
from dgm.models.gan.base import Implicit
from dgm.modes import device_of
from dgm.networks.conditions import conditions_to_draw, labels_of
from dgm.progress import Progress, silent, within
from dgm.protocols import JointDensity, Model, Samplable, condition_of, has
from dgm.samplers.flow_density import Trace, ode_of
from dgm.samplers.ode import Solver

LIKELIHOODS = 0.3  # approximate fraction of an evaluation's time
UNANNEALED = 0.2  # the same of all but annealed importance sampling, where it is asked for; it comes last
FORMAT = 2


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
    keep_freed()
    started = time.perf_counter()
    check_arguments(model, dataset, split, spaces, marginal=marginal, condition=condition)
    if downstream:
        refuse_without_labels(dataset, condition_of(model), condition)
    samples, draws, seed = whole("samples", samples, low=1), whole("draws", draws, low=1), random_seed(seed)
    ode: dict[str, Any] = {"solver": solver, "tolerance": tolerance, "solver_steps": solver_steps, "trace": trace}
    refuse_target(dataset, target)
    if annealed and not isinstance(model, Implicit):
        refuse_without_densities(model)
    ode_of(model, **ode)  # raises the error for arguments that the model does not support
    pool = HeldOut(dataset, split, condition)
    refuse_distances_beyond_memory(pool, samples)
    refuse_unusable(spaces or (), dataset)  # last, since it may download weights
    real = dataset.splits[split] if condition is None else dataset.splits[split].given(condition)
    skipped = Skipped()
    document: dict[str, Any] = {"format": FORMAT, "likelihood": [], "metrics": [], "reference": None, "features": {}}

    def finished(**how: bool) -> dict[str, Any]:
        seconds = round(time.perf_counter() - started, 2)
        return document | {"skipped": list(skipped), "provenance": provenance(seed) | {"seconds": seconds}} | how

    def add(name: str, measure: Callable[[], Any], *, what: str = "") -> None:
        """Adds a measure to the document, unless it is None or fails; its random numbers depend on the seed alone."""
        with torch.random.fork_rng(), skipped.on_failure(what or name):
            torch.manual_seed(seed)
            if found := measure():
                document[name] = found

    coded = annealed and (isinstance(model, Implicit) or has(model, JointDensity))
    whole_progress, progress = progress, within(progress, 0.0, UNANNEALED if coded else 1.0)
    try:
        with torch.random.fork_rng(), skipped.on_failure("likelihood"), annealed_at(model, annealed):
            torch.manual_seed(seed)
            of_likelihood = within(progress, 0.0, LIKELIHOODS)
            of_each = likelihoods(
                model, real.x, real.y, split, draws, seed, of_likelihood, marginal=marginal, skipped=skipped, ode=ode
            )
            document["likelihood"].extend(of_each)
            if constant_of(model) is not None and (annealed or Kind.EXACT not in kinds_of(model)):
                document["constant"] = constant_in_words(model, given_conditions(model, real))
        add("mixing", lambda: mixing(model, conditions_to_draw(model, 1, seed, condition), seed), what="the chains")
        add("codes", lambda: codes_in_use(model, real.x, real.y, seed))
        add("posterior", lambda: posterior_calibration(model, seed))
        add("codebook", lambda: codebook_usage(model, real, split))
        add("classification", lambda: classification(model, real, split))
        add("calibration", lambda: calibration(model, dataset, split, seed))
        add("representation", lambda: judged(model, dataset, split, seed), what="codes beside labels")
        if has(model, Samplable):
            with skipped.on_failure("samples"):
                progress(LIKELIHOODS, "sampling")
                y = conditions_to_draw(model, samples, seed, condition)
                x, document["samples"] = timed_sample(model, samples, seed, y)
                document["samples"] |= {} if condition is None else {"condition": condition.tolist()}
                if torchrun.is_first():  # the other processes have done their share
                    measure_samples(document, x, y, pool, real, spaces, skipped, progress, target)
                if torchrun.is_first() and downstream:
                    of = part_of(progress, 0.95, 0.05, "classifiers of samples and of real examples")
                    add("downstream", lambda: downstream_accuracy(dataset, x, y, real, of), what="downstream accuracy")
        if coded:
            of_annealing = within(whole_progress, UNANNEALED, 1 - UNANNEALED)
            with torch.random.fork_rng(), skipped.on_failure("annealed importance sampling"):
                torch.manual_seed(seed)
                anneal(document, model, dataset, real, split, seed, annealed, of_annealing)
    except KeyboardInterrupt:
        skipped.add("all later measures", "the evaluation was interrupted")
        if on_interrupt is not None and (document["likelihood"] or "samples" in document):
            on_interrupt(finished(interrupted=True))
        raise
    if skipped and not document["likelihood"] and "samples" not in document:
        raise BadInput(f"nothing could be measured: {skipped[0]['reason']}", "check the run and the split")
    whole_progress(1.0, "done")
    return finished()


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
    density of its samples. If it is interrupted, the finished part is in the document.
    """
    x, into, rows = real.x, document, document["likelihood"]
    if isinstance(model, Implicit):
        x = model.dequantised(real.x.to(device_of(model)))
        samples = means_of(model, SAMPLES, seed)
        held = (dataset.validation if len(dataset.validation) else dataset.train).x[:1000]
        sigma = chosen_noise(model, model.dequantised(held.to(x.device)), samples)
        rows = [row_of(density_of_samples(model, x, sigma, samples), len(real), split, SAMPLES)]
        rule = f"samples with N(0, {sigma:.3g}²) noise, which has the best validation value, in scaled data"
        into = document["observed"] = {"sigma": sigma, "rule": rule, "likelihood": rows}
        model = Observed(model, sigma)
    n = examples_within(model, x, real.y, annealed)
    chosen = order(len(x), seed, 0)[:n]  # of a split that may be sorted
    x, y = x[chosen.to(x.device)], None if real.y is None else real.y[chosen]
    held_out, simulated = within(progress, 0.0, 1 / 3), within(progress, 1 / 3, 2 / 3)
    rows.append(
        row_of(annealed_likelihood(model, x, y, temperatures=annealed, progress=held_out), len(real), split, CHAINS)
    )
    into["bracket"] = bracket_in_words(model, n, annealed, seed, simulated)


def given_conditions(model: Model, real: Split) -> Tensor | None:
    """The different conditions of the examples, `EXAMPLES` at most; None for an unconditional model."""
    if condition_of(model) is None or real.y is None:
        return None
    return real.y[order(len(real.y), 0, 0)[:EXAMPLES]].unique(dim=0).to(device_of(model))


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
    refuse_twice("feature space", spaces or ())
    if marginal and not labels_of(model):
        raise Unsupported("this model has no labels: its likelihood is log p(x) already", "leave marginal out")
    if marginal and not kinds_of(model):
        raise Unsupported("this model has no likelihood to sum over labels", "leave marginal out")
    if condition is not None and conditional_on is None:
        raise Unsupported("this model was trained without a condition", "leave the condition out")
    if condition is not None and len(dataset.splits[split].given(condition)) < 2:
        raise BadInput(f"fewer than 2 examples of the {split} split have this condition", "choose another")


def provenance(seed: int) -> dict[str, Any]:
    return {
        "dgm": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)",
        "seed": seed,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
