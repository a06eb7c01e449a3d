"""Log-likelihoods with their kind: exact, lower bound, estimate or unnormalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from dgm import torchrun
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.inputs import pairs, whole
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import check_condition, given_condition, labels_of, marginal_of, name_of
from dgm.progress import Progress, silent
from dgm.protocols import (
    BaseModel,
    Batch,
    BoundedLikelihood,
    Classifying,
    Conditions,
    EstimatedLikelihood,
    ExactLikelihood,
    ImportanceWeighted,
    ManyWeights,
    Model,
    PerExample,
    Unnormalised,
    condition_of,
    has,
)
from dgm.samplers import flow_density
from dgm.samplers.flow_density import ODE, Trace, ode_of
from dgm.samplers.ode import Solver
from dgm.seeds import mix

MOST, NUMBERS = 512, 1 << 16  # largest evaluation batch in examples, and in numbers on a CPU
WEIGHTS = 8  # evaluation batches of codes that are weighted together, so that the decoder takes most of the time
ODES = 50  # largest evaluation batch if each example needs the solution of an ODE, with its own number of steps


class Kind(StrEnum):
    """Kinds of log-likelihood, which must not be ranked against each other without a note."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"
    ESTIMATE = "estimate"
    UNNORMALISED = "unnormalised"


DETERMINISTIC = (Kind.EXACT, Kind.UNNORMALISED)


@dataclass(frozen=True)
class Likelihood:
    """log p(x) or log p(x|y) of a batch, or a bound, an estimate or an unnormalised value of it.

    log p(x) and log p(x|y) must not be ranked against each other: with K equally frequent labels, log p(x|y) of the
    right label may be higher than log p(x) by up to log K nats.

    The density of a record is with respect to the product of counting and Lebesgue measures. If values may be missing,
    it is log P(m) + log p(observed values | m), with m the set of the missing values, as stated in ``method``.

    Attributes:
        nats: (B,), in nats.
        kind: Exact, a lower bound, an estimate, or unnormalised (log p(x) + log Z, with Z unknown).
        method: A short description of the computation.
        dim: D, the number of dimensions of one example.
        condition: For log p(x|y) the kind of y, "label" or "condition"; None for log p(x).

    Example:
        >>> Likelihood(torch.tensor([-64 * math.log(2)]), Kind.EXACT, "closed form", dim=64).bits_per_dim
        tensor([1.])
    """

    nats: PerExample
    kind: Kind
    method: str
    dim: int
    condition: str | None = None

    @property
    def bits_per_dim(self) -> PerExample:
        """-log2 p(x) / D, (B,)."""
        return -self.nats / (self.dim * math.log(2))

    @property
    def perplexity(self) -> Tensor:
        """exp of the mean negative log-likelihood per dimension, a scalar."""
        return (-self.nats.double().mean() / self.dim).exp()


KINDS: Sequence[tuple[type, Kind]] = (
    (ExactLikelihood, Kind.EXACT),
    (BoundedLikelihood, Kind.LOWER_BOUND),
    (EstimatedLikelihood, Kind.ESTIMATE),
    (Unnormalised, Kind.UNNORMALISED),
)


def kinds_of(model: BaseModel) -> list[Kind]:
    """The kinds of likelihood of a model, or of a class of models, the best first."""
    return [kind for protocol, kind in KINDS if has(model, protocol)]


def kind_of(model: BaseModel) -> Kind | None:
    """The best kind of likelihood of a model, or of a class of models; None if it has none."""
    return next(iter(kinds_of(model)), None)


def evaluation_batch(model: Model, kind: Kind | None = None) -> int:
    """The batch size for passes without gradients.

    On a CPU it is small, so that the allocator reuses the memory of features: larger tensors are allocated by the
    operating system at each layer, and a pass over 512 images takes two to three times as long as eight over 64.
    """
    most = ODES if kind is Kind.ESTIMATE else MOST
    return max(16, min(most, NUMBERS // model.space.dim)) if device_of(model).type == "cpu" else most


@torch.no_grad()
def log_likelihood(
    model: Model,
    x: Batch | Any,
    y: Conditions | Any | None = None,
    *,
    draws: int = 1,
    kind: Kind | str | None = None,
    marginal: bool = False,
    solver: Solver | None = None,
    tolerance: float | None = None,
    solver_steps: int | None = None,
    trace: Trace | None = None,
    progress: Progress = silent,
) -> Likelihood:
    """The log-likelihood of ``x`` with its kind: log p(x|y) for a conditional model, log p(x) otherwise.

    The model is in evaluation mode and x is processed in blocks on the device of the model, so x may be large or
    memory-mapped.

    Args:
        x: (B, *space.shape), in the space of the data: a tensor, an array or a nested list of numbers; or a `Dataset`,
            of which the test split is used, one of its splits, or a torch DataLoader, whose batches are concatenated.
            These contain their conditions.
        y: A batch of conditions for a conditional model, such as (B,) labels, or one condition for all examples.
        draws: Random draws for each example. Importance weights are averaged where the model has them (a bound that
            tightens with K), otherwise bounds or estimates are averaged; an exact likelihood ignores it.
        kind: The kind of likelihood, for a model that has several; by default the best.
        marginal: Compute log p(x) of a conditional model, at the cost of one pass for each label: see `marginalised`.
        solver: The solver of the ODE in the estimate of a denoising model, see `dgm.samplers.flow_density.ODE`; so are
            ``tolerance``, ``solver_steps`` and ``trace``, "exact" or "hutchinson". If one of them is given, the default
            kind is the estimate.
        progress: Called with the completed fraction and a description before each block.

    Returns:
        The log-likelihoods, on the device of x.

    Raises:
        Unsupported: If the model has no likelihood of this kind, or for a label with an unconditional model and the
            reverse.
        BadInput: For a batch that is not of the model's space, or conditions that do not fit.
    """
    draws, known = whole("draws", draws, low=1), kinds_of(model)
    ode = ode_of(model, solver=solver, tolerance=tolerance, solver_steps=solver_steps, trace=trace) if known else None
    kind = _selected_kind(model, Kind.ESTIMATE if kind is None and ode is not None else kind)
    if ode is not None and kind is not Kind.ESTIMATE:
        raise BadInput(f"a solver is for the estimate by an ODE, and the kind is {kind}", "leave one of the two out")
    x, y = pairs(x, y, conditional=condition_of(model) is not None and not marginal)
    batch = model.space.check(x)
    given = _condition(model, y, len(batch), kind, marginal=marginal)
    weighted = has(model, ImportanceWeighted) and (draws > 1 or marginal)
    device, dtype = device_of(model), _dtype(model)

    key = int(torch.randint(2**62, ())) if kind not in DETERMINISTIC else None

    def nats(k: int, rows: Tensor) -> PerExample:
        progress(int(rows[0]) / len(batch), f"{int(rows[0]):,} of {len(batch):,}")
        if key is not None:  # so that a block's numbers do not depend on the process that draws them
            torch.manual_seed(mix(key, k) >> 1)
        block = batch[rows].to(device, dtype)
        if marginal:
            return marginalised(model, block, kind, draws, weighted=weighted, ode=ode)
        of_block = None if given is None else given[rows].to(device)
        return _nats(model, block, of_block, kind, draws, weighted=weighted, ode=ode)

    devices = [device] if device.type == "cuda" else []
    with evaluating(model), torch.random.fork_rng(devices, enabled=key is not None):
        batch_size = evaluation_batch(model, kind)
        if kind is Kind.LOWER_BOUND and weighted and has(model, ManyWeights):
            batch_size = max(1, batch_size // draws)  # few examples with many draws each
        blocks = torch.arange(len(batch)).split(batch_size) if len(batch) else ()
        parts = torchrun.shared([nats(k, rows) if torchrun.is_mine(k) else None for k, rows in enumerate(blocks)])
    stated = stated_method(model, kind) if ode is None else ode.words(flow_density.denoising_part(model).space)
    method = _method(stated, kind, draws, weighted=weighted)
    if any(part.optional for _, part in model.space.parts):
        method += ", log P(missing cells) + log p(observed cells)"
    method += f", sum over {labels_of(model)} labels" if marginal else ""
    result = torch.cat(parts).to(batch.device) if parts else torch.empty(0)
    condition = None if given is None or model.condition is None else name_of(model.condition)
    return Likelihood(result, kind, method, model.space.dim, condition=condition)


def _condition(model: Model, y: Any, n: int, kind: Kind, *, marginal: bool) -> Conditions | None:
    """The conditions; None for log p(x)."""
    if not marginal:
        return check_condition(given_condition(model, y, n), condition_of(model))
    if y is not None:
        raise BadInput("labels are given, and the marginal is of all of them", "give labels, or ask for the marginal")
    if condition_of(model) is None:
        raise Unsupported("this model has no labels: its likelihood is log p(x) already", "leave marginal out")
    if not labels_of(model):
        wrong = f"log p(x) is a sum over labels, and this model's condition is a {model.condition}"
        raise Unsupported(wrong, "give conditions: log p(x|y)")
    if kind is Kind.UNNORMALISED and not has(model, Classifying):
        raise Unsupported("energies of different labels have no common log Z", "give labels")
    return None


def _dtype(model: Model) -> torch.dtype:
    """The dtype of x for the model: that of the space, or for continuous x at least that of the parameters."""
    if model.space.discrete or model.space.kind == "record":
        return model.space.dtype
    own = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return torch.promote_types(next(own, torch.float32), torch.float32)


def _nats(
    model: Model, x: Batch, y: Conditions | None, kind: Kind, draws: int, *, weighted: bool, ode: ODE | None = None
) -> PerExample:
    match kind:
        case Kind.EXACT:
            return model.log_prob(x, y)
        case Kind.LOWER_BOUND if weighted:
            return weighted_bound(model, x, y, draws)
        case Kind.LOWER_BOUND:
            return torch.stack([model.elbo(x, y) for _ in range(draws)]).mean(0)
        case Kind.ESTIMATE if ode is not None:
            with flow_density.solved_by(ode):
                return torch.stack([model.log_prob_estimate(x, y) for _ in range(draws)]).mean(0)
        case Kind.ESTIMATE:
            return torch.stack([model.log_prob_estimate(x, y) for _ in range(draws)]).mean(0)
        case Kind.UNNORMALISED:
            return -model.energy(x, y)


def weighted_bound(model: Model, x: Batch, y: Conditions | None, draws: int) -> PerExample:
    """The log of the mean of K = ``draws`` importance weights, (B,), in parts whose size does not depend on K."""
    if has(model, ManyWeights):
        most = max(1, WEIGHTS * evaluation_batch(model) // len(x))
        parts = [model.log_weights(x, y, draws=len(part)) for part in torch.arange(draws).split(most)]
        return torch.cat([part.double().logsumexp(0, keepdim=True) for part in parts]).logsumexp(0) - math.log(draws)
    return torch.stack([model.log_weight(x, y) for _ in range(draws)]).logsumexp(0) - math.log(draws)


def marginalised(
    model: Model, x: Batch, kind: Kind, draws: int, *, weighted: bool, ode: ODE | None = None
) -> PerExample:
    r"""log p(x) of a conditional model, (B,), with p(y) the share of each label in the training data.

    .. math:: \log p(x) = \log \sum_y p(y) p(x|y)

    The kind of likelihood stays the same. All labels share the same random draws, so that the noise of an estimate does
    not select the label. The sum of importance weights is an importance weight of p(x), but a sum of noisy bounds is
    not a bound. A bound L without weights is therefore summed by another bound, with independent draws for L':

    .. math:: \log p(x) \ge E_{q(y)}[L(x|y) + \log p(y) - \log q(y)], \quad q(y) \propto p(y) e^{L'(x|y)}
    """
    if kind is Kind.UNNORMALISED:  # a classifier's, which is the energy of p(x)
        return -model.energy(x, None)
    shares = marginal_of(model).shares.to(x.device)
    labels = shares.nonzero()[:, 0]

    def joint() -> Tensor:
        """log p(x|y) + log p(y) of all labels with p(y) > 0, (labels, B)."""
        parts = []
        for label in labels:
            # the random state is not restored after the last label, so that the next draws are independent
            with torch.random.fork_rng([x.device] if x.is_cuda else [], enabled=bool(label != labels[-1])):
                parts.append(_nats(model, x, label.expand(len(x)), kind, draws, weighted=weighted, ode=ode))
        return torch.stack(parts) + shares[labels].log()[:, None].to(parts[0])

    if kind is not Kind.LOWER_BOUND or weighted:
        return joint().logsumexp(0)
    log_q = joint().log_softmax(0)
    return (log_q.exp() * (joint() - log_q)).sum(0)


def _method(stated: str, kind: Kind, draws: int, *, weighted: bool) -> str:
    match kind:
        case Kind.EXACT:
            return stated or "closed form"
        case Kind.LOWER_BOUND if weighted:
            return f"importance-weighted bound, K = {draws}" + (f", {stated}" if stated else "")
        case Kind.LOWER_BOUND:
            return f"{stated or 'evidence lower bound'}, {_count(draws)}"
        case Kind.ESTIMATE:
            return f"{stated or 'estimate'}, {_count(draws)}"
        case Kind.UNNORMALISED:
            return stated or "negative energy, log Z unknown"


def _selected_kind(model: Model, kind: Kind | str | None) -> Kind:
    available = kinds_of(model)
    if not available:
        raise _without_likelihood(model)
    if kind is None:
        return available[0]
    if kind not in list(Kind):
        raise UnknownName.of("kind of likelihood", str(kind), list(Kind))
    if kind not in available:
        words = ", ".join(available).replace("_", " ")
        raise Unsupported(f"{type(model).__name__} has no {kind.replace('_', ' ')}", f"its likelihoods: {words}")
    return Kind(kind)


def stated_method(model: Model, kind: Kind) -> str:
    """The description of this kind of likelihood by the model: ``likelihood_method`` describes the best kind."""
    if kind is not kind_of(model):
        return getattr(model, f"{kind}_method", "")
    return getattr(model, "likelihood_method", "")


def _count(draws: int) -> str:
    return "1 draw" if draws == 1 else f"mean of {draws} draws"


def _without_likelihood(model: Model) -> Unsupported:
    from dgm.models.table import MODELS

    names = ", ".join(name for name, spec in MODELS.items() if spec.likelihood in ("exact", "lower_bound"))
    stated = getattr(model, "likelihood_method", "")
    wrong = f"{type(model).__name__} has no likelihood" + (f": {stated}" if stated else "")
    return Unsupported(wrong, f"models that have one: {names}")
