"""The log-density of each row of a table, and how unusual it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgm import edit
from dgm.errors import Unsupported
from dgm.likelihood import Kind, Likelihood, kind_of, log_likelihood
from dgm.protocols import Batch, Conditions, Model

DRAWS = 16  # importance weights of a row, unless another number is asked for


class Scores(NamedTuple):
    """The scores of rows.

    Attributes:
        nats: (N,), log p of each row; where values are missing that the model does not know as missing, log p(x_o) of
            the observed ones.
        kinds: The kind of each number.
        rank: (N,) int64, 1 for the row of the lowest log-density; equal rows have the same rank.
        method: A short description of the likelihood.
    """

    nats: Tensor
    kinds: list[Kind]
    rank: Tensor
    method: str


def scores(
    model: Model, x: Batch, y: Conditions | None = None, *, draws: int = DRAWS, seed: int = 0, **how: Any
) -> Scores:
    """The scores of the rows ``x``, with NaN where a value is missing, and infinity where it has no probability.

    A missing value of a column in whose training data values were missing is a value as any other: its probability is
    part of the density. Any other missing value is marginalised, exactly where the model has the marginal density in
    closed form or reads all observed columns first, and otherwise by the mean weight of `dgm.edit.impute`, whose
    logarithm is a lower bound on average.

    Args:
        draws: Importance weights, or draws of bounds and estimates, for each row.
        how: Arguments of `dgm.log_likelihood`.

    Raises:
        Unsupported: For a model without a likelihood, or without one of some of the columns.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        impossible, holes = x.isinf().flatten(1).any(1), unknown(model, x)
        nats, kinds = x.new_full((len(x),), -torch.inf, dtype=torch.float64), [Kind.EXACT] * len(x)
        method = "no row has a probability"
        for rows, of in ((holes & ~impossible, marginal), (~holes & ~impossible, complete)):
            if rows.any():
                found = of(model, x[rows], None if y is None else y[rows], draws, seed, how)
                nats[rows] = found.nats.double()
                kinds = [found.kind if here else kind for here, kind in zip(rows.tolist(), kinds, strict=True)]
                method = found.method
    return Scores(nats, kinds, (nats[:, None] > nats).sum(1) + 1, method)


def unknown(model: Model, x: Batch) -> Tensor:
    """Which rows have a missing value in a column without missing values in training."""
    parts = [part for _, part in model.space.parts] or [model.space]
    optional = torch.tensor([part.optional for part in parts for _ in range(part.dim)])
    return (x.flatten(1).isnan() & ~optional).any(1)


def complete(model: Model, x: Batch, y: Conditions | None, draws: int, seed: int, how: dict[str, Any]) -> Likelihood:
    k = draws if kind_of(model) is not Kind.EXACT else 1
    return log_likelihood(model, x.to(model.space.dtype), y, draws=k, **how)


def marginal(model: Model, x: Batch, y: Conditions | None, draws: int, seed: int, how: dict[str, Any]) -> Likelihood:
    """log p of the observed values, where the gaps of optional columns are observed too."""
    parts = [part for _, part in model.space.parts] or [model.space]
    optional = torch.tensor([part.optional for part in parts for _ in range(part.dim)])
    found = edit.impute(model, x, y, observed=~x.isnan() | optional, present=False, seed=seed)
    if found.kind is None:
        wrong = f"{type(model).__name__} has no likelihood of some of the columns"
        raise Unsupported(wrong, "leave out the rows with missing values, or impute them first")
    exact = found.kind is Kind.LOWER_BOUND and kind_of(model) is Kind.EXACT and bool(found.effective.isinf().all())
    return Likelihood(found.log_p[:, 0], Kind.EXACT if exact else found.kind, found.method, model.space.dim)


def held_out_shares(nats: Tensor, held_out: Tensor) -> Tensor:
    """The share of held-out rows whose log-density is at most that of each row, (N,): small for an unusual row."""
    ordered = held_out.double().sort().values
    return torch.searchsorted(ordered, nats.double(), right=True) / max(1, len(held_out))
