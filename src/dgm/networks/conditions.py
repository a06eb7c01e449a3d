"""Conditions y: which fit a model, which are drawn where none is given, which are hidden in training."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from dgm.condition import Names, encoded
from dgm.errors import BadInput, Unsupported
from dgm.inputs import brief, tensor
from dgm.protocols import Conditions, Model, PartlyHidden
from dgm.seeds import Streams
from dgm.space import Space

KEPT = 256  # examples of a condition that a model keeps to draw from
EVERY_KIND = frozenset({"binary", "levels", "tokens", "categories", "continuous", "record"})


def is_label(condition: Space | None) -> TypeGuard[Space]:
    """Whether a condition is one label an example."""
    return condition is not None and condition.kind == "categories" and condition.shape == ()


def name_of(condition: Space) -> str:
    """What a table calls the condition of a likelihood log p(x|y)."""
    return "label" if is_label(condition) else "condition"


def labels_of(model: Model) -> int:
    """How many labels the model is conditional on; 0 for a model without a condition, or with one of another kind."""
    condition = getattr(model, "condition", None)
    return (condition.values or 0) if is_label(condition) else 0


def check_condition(y: Conditions | None, condition: Space | None) -> Conditions | None:
    """``y`` itself, once it is known to be a batch of ``condition``; None for a model without a condition.

    Raises:
        Unsupported: For a condition where none was trained, or none where one is needed.
        BadInput: For another shape or type, and, in a processor's memory, for a value out of range.
    """
    if condition is None:
        if y is not None:
            raise Unsupported(
                "this model was trained without labels or another condition",
                "leave the condition out, or train with --conditional",
            )
        return None
    if y is None and is_label(condition):
        remedy = f"give y, (B,) integers from 0 to {(condition.values or 0) - 1}"
        raise Unsupported("this model needs a label for each example", remedy)
    if y is None:
        raise Unsupported(f"this model needs a condition for each example, of {condition}", "give y, a batch of it")
    if not isinstance(y, Tensor) or tuple(y.shape[1:]) != condition.shape:
        wrong = f"expected conditions of shape (B, {', '.join(map(str, condition.shape))}), got {brief(y)}"
        raise BadInput(wrong, "give y, one an example")
    # elsewhere a look at the values would make each step wait
    return condition.check(y) if y.device.type == "cpu" else y


def given_condition(model: Model, y: Any, n: int) -> Conditions | None:
    """The conditions that a user gives, one an example or one for all, as a batch of n; None stays None.

    Words are read by the names of the conditions of the data that the model was trained on.

    Raises:
        Unsupported: For a model without a condition.
        BadInput: For another shape or count than ``n``, or values that are not of the model's condition.
    """
    condition: Space | None = getattr(model, "condition", None)
    if y is None:
        return None
    if condition is None:
        return check_condition(torch.empty(0), None)
    word = "labels" if is_label(condition) else "conditions"
    y = encoded(y, condition, getattr(model, "names", Names()))
    found, whole = tensor(word, y), condition.discrete and condition.kind != "record"
    if found.numel() == 0 and whole:
        found = found.long()  # numpy takes an empty list for fractions
    if found.dtype == torch.bool and condition.kind == "binary":
        found = found.to(torch.uint8)
    if whole and (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool):
        raise BadInput(f"{word} must be whole numbers, got {found.dtype}", "convert them")
    if tuple(found.shape) == condition.shape:
        found = found.expand(n, *condition.shape)
    if tuple(found.shape) != (n, *condition.shape):
        wrong = f"expected {n} {word}, one an example, got {brief(y)} of shape {tuple(found.shape)}"
        raise BadInput(wrong, "give as many as examples, or one for all")
    return condition.check(found if whole else found.to(condition.dtype)).to(condition.dtype)


def sampled_condition(y: Conditions | None, model: Model, noise: Streams) -> Conditions | None:
    """The conditions to sample with: those given, one a sample, else drawn from the model's `Marginal` by the samples'
    own streams.

    Raises:
        BadInput: For another number of conditions than of samples.
        Unsupported: For a model that has seen none, where none is given.
    """
    condition: Space | None = getattr(model, "condition", None)
    if y is not None and condition is not None and len(y) != len(noise):
        word = "labels" if is_label(condition) else "conditions"
        raise BadInput(f"expected {len(noise)} {word}, one a sample, got {len(y)}", "give as many as samples")
    if y is None and condition is not None:
        return marginal_of(model).draw(noise)
    return check_condition(y, condition)


class Marginal(nn.Module):
    """p(y), by which a conditional model draws the conditions that it is not given. It is kept with the weights.

    Of a label, the share of each in the training data, all alike before training; of any other condition, up to 256
    examples of the training data.

    Attributes:
        shares: (K,) float64, of a label.
        examples: (256, *shape), of which the first ``known`` are there, and ``missing``, which of them are NaN.
    """

    shares: Tensor
    examples: Tensor
    missing: Tensor
    known: Tensor

    def __init__(self, condition: Space) -> None:
        super().__init__()
        self.condition = condition
        if is_label(condition):
            k = condition.values or 1
            self.register_buffer("shares", torch.full((k,), 1 / k, dtype=torch.float64))
            return
        self.register_buffer("examples", torch.zeros(KEPT, *condition.shape, dtype=condition.dtype))
        self.register_buffer("known", torch.tensor(0))
        if condition.dtype == torch.float64:  # a value of a record may be missing
            self.register_buffer("missing", torch.zeros(KEPT, *condition.shape, dtype=torch.bool))

    @torch.no_grad()
    def fit(self, y: Tensor) -> None:
        """Learns p(y) from the conditions of the training data, (N, *shape)."""
        if len(y) == 0:
            return
        if is_label(self.condition):
            self.shares.copy_(y.cpu().bincount(minlength=len(self.shares)).double() / len(y))
            return
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:KEPT]
        kept = y[rows].to(self.examples)
        self.examples[: len(kept)] = kept.nan_to_num() if kept.is_floating_point() else kept
        if kept.dtype == torch.float64:
            self.missing[: len(kept)] = kept.isnan()
        self.known.fill_(len(kept))

    def draw(self, noise: Streams) -> Tensor:
        """One condition a stream, (n, *shape)."""
        if is_label(self.condition):
            return noise.categorical(self.shares.log().to(noise.device).expand(len(noise), -1))
        if not self.known:
            wrong = f"this model has seen no {self.condition} to draw its condition from"
            raise Unsupported(wrong, "give condition=, or train it by dgm.fit")
        row = (noise.uniform(()).double() * self.known).long().to(self.examples.device)
        y = self.examples[row]
        return y if y.dtype != torch.float64 else y.masked_fill(self.missing[row], torch.nan)


def marginal_of(model: Model) -> Marginal:
    """The model's p(y), or that of the model within it.

    Raises:
        Unsupported: For a model that has none.
    """
    found = next((part for part in model.modules() if isinstance(part, Marginal)), None)
    if found is None:
        raise Unsupported(f"{type(model).__name__} has no p(y) to draw its condition from", "give condition=")
    return found


def fit_marginals(model: Model, y: Tensor | None) -> None:
    """Sets p(y) of a conditional model, and of the models within it, to that of the training data."""
    if y is not None:
        for part in model.modules():
            if isinstance(part, Marginal):
                part.fit(y)


def partly_hidden(y: Conditions | None, share: float) -> Conditions | PartlyHidden | None:
    """The conditions, each of which is hidden with the probability ``share``, drawn anew each time.

    A network that learns from these has a density with each condition and one without, which classifier-free guidance
    sets against each other. Source: arXiv:2207.12598, algorithm 1.
    """
    if y is None or share == 0:
        return y
    return PartlyHidden(y, torch.rand(len(y), device=y.device) < share)
