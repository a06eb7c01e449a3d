"""Likelihoods that say what kind of number they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.protocols import (
    Batch,
    BoundedLikelihood,
    EstimatedLikelihood,
    ExactLikelihood,
    ImportanceWeighted,
    Labels,
    Model,
    PerExample,
    Unnormalised,
)

MOST, NUMBERS = 512, 1 << 16  # examples at once; numbers that they have together, on a CPU


class Kind(StrEnum):
    """Kinds of number that must not be ranked against one another unsaid."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"
    ESTIMATE = "estimate"
    UNNORMALISED = "unnormalised"


@dataclass(frozen=True)
class Likelihood:
    """log p(x) of a batch, or what the model has in its place.

    Attributes:
        nats: One number an example, (B,), in nats.
        kind: Exact, a lower bound, an estimate, or unnormalised (log p(x) + log Z, with Z unknown).
        method: How it was computed, in a few words.
        dim: D, the number of dimensions of one example.

    Example:
        >>> Likelihood(torch.tensor([-64 * math.log(2)]), Kind.EXACT, "closed form", dim=64).bits_per_dim
        tensor([1.])
    """

    nats: PerExample
    kind: Kind
    method: str
    dim: int

    @property
    def bits_per_dim(self) -> PerExample:
        """-log2 p(x) / D, (B,)."""
        return -self.nats / (self.dim * math.log(2))

    @property
    def perplexity(self) -> Tensor:
        """exp of the mean negative log-likelihood a dimension, a scalar."""
        return (-self.nats.double().mean() / self.dim).exp()


KINDS: Sequence[tuple[type, Kind]] = (
    (ExactLikelihood, Kind.EXACT),
    (BoundedLikelihood, Kind.LOWER_BOUND),
    (EstimatedLikelihood, Kind.ESTIMATE),
    (Unnormalised, Kind.UNNORMALISED),
)


def kinds_of(model: Model) -> list[Kind]:
    """The kinds of likelihood that a model, or a class of models, has, the best first."""
    has = issubclass if isinstance(model, type) else isinstance
    return [kind for protocol, kind in KINDS if has(model, protocol)]


def kind_of(model: Model) -> Kind | None:
    """The best kind of likelihood that a model, or a class of models, has; None if it has none."""
    return next(iter(kinds_of(model)), None)


def at_once(model: Model) -> int:
    """How many examples a pass without gradients should take.

    On a CPU so few that a layer's features lie in memory which the process keeps: larger ones are asked of the system
    anew at each layer, page by page, and a pass over 512 images takes two to three times as long as eight over 64.
    """
    device = next(model.parameters(), torch.empty(0)).device
    return max(16, min(MOST, NUMBERS // model.space.dim)) if device.type == "cpu" else MOST


@torch.no_grad()
def log_likelihood(
    model: Model, x: Batch, y: Labels | None = None, *, draws: int = 1, kind: Kind | str | None = None
) -> Likelihood:
    """A likelihood that ``model`` has of ``x``, with its kind.

    Args:
        x: (B, *space.shape), in the data's own space.
        y: (B,) labels, for a conditional model.
        draws: Random draws an example. Their weights are averaged where the model has importance weights (a bound that
            tightens with K), their bounds or estimates are averaged otherwise; an exact likelihood ignores it.
        kind: Which, of a model that has several; the best by default.

    Raises:
        Unsupported: For a model with no likelihood of any kind, or of this.
        BadInput: For a batch that is not of the model's space.
    """
    if draws < 1:
        raise BadInput(f"draws must be at least 1, got {draws}", "ask for one draw or more")
    model.space.check(x)
    kind = _chosen(model, kind)
    stated = _stated(model, kind)
    match kind:
        case Kind.EXACT:
            nats, method = model.log_prob(x, y), stated or "closed form"
        case Kind.LOWER_BOUND if draws > 1 and isinstance(model, ImportanceWeighted):
            weights = torch.stack([model.log_weight(x, y) for _ in range(draws)])
            nats, method = weights.logsumexp(0) - math.log(draws), f"importance-weighted bound, K = {draws}"
            method += f", {stated}" if stated else ""
        case Kind.LOWER_BOUND:
            nats = torch.stack([model.elbo(x, y) for _ in range(draws)]).mean(0)
            method = f"{stated or 'evidence lower bound'}, {_count(draws)}"
        case Kind.ESTIMATE:
            nats = torch.stack([model.log_prob_estimate(x, y) for _ in range(draws)]).mean(0)
            method = f"{stated or 'estimate'}, {_count(draws)}"
        case Kind.UNNORMALISED:
            nats, method = -model.energy(x, y), stated or "negative energy, log Z unknown"
    return Likelihood(nats, kind, method, dim=model.space.dim)


def _chosen(model: Model, kind: Kind | str | None) -> Kind:
    having = kinds_of(model)
    if not having:
        raise _without_likelihood(model)
    if kind is None:
        return having[0]
    if kind not in list(Kind):
        raise UnknownName.of("kind of likelihood", str(kind), list(Kind))
    if kind not in having:
        words = ", ".join(having).replace("_", " ")
        raise Unsupported(f"{type(model).__name__} has no {kind.replace('_', ' ')}", f"its likelihoods: {words}")
    return Kind(kind)


def _stated(model: Model, kind: Kind) -> str:
    """How the model says that it computes this likelihood: ``likelihood_method`` is of the best kind that it has."""
    if kind is not kind_of(model):
        return getattr(model, f"{kind}_method", "")
    return getattr(model, "likelihood_method", "")


def _count(draws: int) -> str:
    return "1 draw" if draws == 1 else f"mean of {draws} draws"


def _without_likelihood(model: Model) -> Unsupported:
    from dgm.registry import MODELS

    having = ", ".join(name for name, spec in MODELS.items() if spec.likelihood in ("exact", "lower_bound"))
    return Unsupported(f"{type(model).__name__} has no likelihood", f"models that have one: {having}")
