"""Conditions y: checks against the space of a model, draws from p(y), and dropout in training."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from dgm.condition import Names, encoded
from dgm.errors import BadInput, Unsupported
from dgm.inputs import brief, tensor
from dgm.modes import device_of
from dgm.protocols import BaseModel, Conditions, Model, PartlyHidden, condition_of
from dgm.seeds import Streams, mix
from dgm.space import Space

KEPT = 256  # examples of conditions that a model stores and draws from
OF_CONDITIONS = 1  # index of the random streams of the conditions
EVERY_KIND = frozenset({"binary", "levels", "tokens", "categories", "continuous", "record"})


def is_label(condition: Space | None) -> TypeGuard[Space]:
    """Whether the condition is one label for each example."""
    return condition is not None and condition.kind == "categories" and condition.shape == ()


def name_of(condition: Space) -> str:
    """The name of the condition of a likelihood log p(x|y) in a table."""
    return "label" if is_label(condition) else "condition"


def labels_of(model: Model) -> int:
    """The number of labels of a label-conditional model; 0 for a model with another condition or without one."""
    condition = condition_of(model)
    return (condition.values or 0) if is_label(condition) else 0


def check_condition(y: Conditions | None, condition: Space | None) -> Conditions | None:
    """Checks that ``y`` is a batch of ``condition`` and returns it; None for a model without a condition.

    Raises:
        Unsupported: If a condition is given to an unconditional model, or none to a model that needs one.
        BadInput: If the shape or the dtype is wrong, or, on the CPU, if a value is out of range.
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
    # on a GPU, a check of the values would block each step
    return condition.check(y) if y.device.type == "cpu" else y


def given_condition(model: Model, y: Any, n: int) -> Conditions | None:
    """The user's conditions, one for each example or one for all, as a batch of n; None stays None.

    Words are converted with the names of the conditions in the model's training data.

    Raises:
        Unsupported: If the model has no condition.
        BadInput: If the shape is wrong, the number is not ``n``, or a value is not in the model's space of conditions.
    """
    condition: Space | None = condition_of(model)
    if y is None:
        return None
    if condition is None:
        return check_condition(torch.empty(0), None)
    word = "labels" if is_label(condition) else "conditions"
    y = encoded(y, condition, getattr(model, "names", Names()))
    batch, whole = tensor(word, y), condition.discrete and condition.kind != "record"
    if batch.numel() == 0 and whole:
        batch = batch.long()  # numpy reads an empty list as float64
    if batch.dtype == torch.bool and condition.kind == "binary":
        batch = batch.to(torch.uint8)
    if whole and (batch.is_floating_point() or batch.is_complex() or batch.dtype == torch.bool):
        raise BadInput(f"{word} must be whole numbers, got {batch.dtype}", "convert them")
    if tuple(batch.shape) == condition.shape:
        batch = batch.expand(n, *condition.shape)
    if tuple(batch.shape) != (n, *condition.shape):
        wrong = f"expected {n} {word}, one an example, got {brief(y)} of shape {tuple(batch.shape)}"
        raise BadInput(wrong, "give as many as examples, or one for all")
    return condition.check(batch if whole else batch.to(condition.dtype)).to(condition.dtype)


def sampled_condition(y: Conditions | None, model: BaseModel, noise: Streams) -> Conditions | None:
    """The condition of each sample: ``y``, or, if it is None, draws from the model's `Marginal` with the random streams
    of the samples.

    Raises:
        BadInput: If the number of conditions is not the number of samples.
        Unsupported: If ``y`` is None and the model was not trained on conditions.
    """
    condition: Space | None = condition_of(model)
    if y is not None and condition is not None and len(y) != len(noise):
        word = "labels" if is_label(condition) else "conditions"
        raise BadInput(f"expected {len(noise)} {word}, one a sample, got {len(y)}", "give as many as samples")
    if y is None and condition is not None:
        return marginal_of(model).draw(noise)
    return check_condition(y, condition)


class Marginal(nn.Module):
    """p(y), from which a conditional model draws conditions if the user specifies none. It is saved with the weights.

    For a label it is the share of each label in the training data, and uniform before training. For any other condition
    it is the empirical distribution of up to 256 examples of the training data.

    Attributes:
        shares: The probability of each label, (K,) float64.
        examples: The stored conditions, (256, *shape), of which the first ``known`` are valid; ``missing`` is the mask
            of their NaN.
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
        """Estimates p(y) from the conditions of the training data, (N, *shape)."""
        if len(y) == 0:
            return
        if is_label(self.condition):
            self.shares.copy_(y.cpu().bincount(minlength=len(self.shares)).double() / len(y))
            return
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:KEPT]
        stored = y[rows].to(self.examples)
        self.examples[: len(stored)] = stored.nan_to_num() if stored.is_floating_point() else stored
        if self.condition.dtype == torch.float64:
            self.missing[: len(stored)] = stored.isnan()
        self.known.fill_(len(stored))

    def draw(self, noise: Streams) -> Tensor:
        """Draws one condition for each stream, (n, *shape)."""
        if is_label(self.condition):
            return noise.categorical(self.shares.log().to(noise.device).expand(len(noise), -1))
        if not self.known:
            wrong = f"this model has seen no {self.condition} to draw its condition from"
            raise Unsupported(wrong, "give condition=, or train it by dgm.fit")
        row = (noise.uniform(()).double() * self.known).long().to(self.examples.device)
        y = self.examples[row]
        return y if self.condition.dtype != torch.float64 else y.masked_fill(self.missing[row], torch.nan)


def marginal_of(model: BaseModel) -> Marginal:
    """The distribution p(y) of the model, or of one of its parts.

    Raises:
        Unsupported: If the model has no distribution of conditions.
    """
    marginal = next((part for part in model.modules() if isinstance(part, Marginal)), None)
    if marginal is None:
        raise Unsupported(f"{type(model).__name__} has no p(y) to draw its condition from", "give condition=")
    return marginal


def conditions_to_draw(model: Model, n: int, seed: int, condition: Tensor | None = None) -> Tensor | None:
    """(n, *shape), drawn from the model's p(y) unless one is given; None for a model without a condition."""
    space: Space | None = condition_of(model)
    if space is None:
        return None
    if condition is not None:
        return condition.expand(n, *space.shape)
    # separate random streams: with those of the samples' noise, x would depend on the draws of y
    return marginal_of(model).draw(Streams(mix(seed, OF_CONDITIONS), range(n), device_of(model))).cpu()


def fit_marginals(model: Model, y: Tensor | None) -> None:
    """Estimates p(y) of a conditional model, and of the models inside it, from the training data."""
    if y is not None:
        for part in model.modules():
            if isinstance(part, Marginal):
                part.fit(y)


def partly_hidden(y: Conditions | None, share: float) -> Conditions | PartlyHidden | None:
    """The conditions, each of which is hidden with probability ``share``, independently in each call.

    A network that is trained on these is both a conditional and an unconditional model, which classifier-free guidance
    combines. Source: arXiv:2207.12598, algorithm 1.
    """
    if y is None or share == 0:
        return y
    return PartlyHidden(y, torch.rand(len(y), device=y.device) < share)
