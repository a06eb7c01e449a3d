"""The log-likelihoods of held-out examples, of each kind that a model has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dgm.data import order
from dgm.evaluation.annealed import constant_of
from dgm.evaluation.skipping import Skipped
from dgm.likelihood import Kind, Likelihood, kinds_of, log_likelihood
from dgm.progress import Progress, silent
from dgm.protocols import ImportanceWeighted, Model, condition_of, has

IMPORTANCE_DRAWS = 16
# an estimate solves an ODE for each example: of at least so many examples, and of at most so many numbers beyond that
ESTIMATED, ESTIMATED_NUMBERS = 250, 16_000


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
            progress((k + share) / len(requested), str(kind).replace("_", " "))

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


def perplexity(result: Likelihood) -> float | None:
    """Of one dimension; None where log Z is unknown, or beyond the largest float."""
    found = math.inf if result.kind is Kind.UNNORMALISED else float(result.perplexity)
    return found if math.isfinite(found) else None


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
        "perplexity": perplexity(result),
        "n": len(nats),
        "of": of,
        "split": split,
        "draws": draws,
    }
