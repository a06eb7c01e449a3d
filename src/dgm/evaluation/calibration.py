"""Calibration of the conditional distributions of numbers: ranks and coverage.

Of the columns of a table given the others or the condition, and of the code of a variational autoencoder given x.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import chisquare
from torch import Tensor

from dgm.data import Dataset, order
from dgm.distributions.columns import scalars
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import marginal_of
from dgm.protocols import Imputing, JointDensity, Model, Samplable, condition_of, has
from dgm.sampling import sample
from dgm.seeds import Streams
from dgm.space import Space

DRAWS = 19  # of each example: 20 ranks
EXAMPLES = 200  # at most
COLUMNS = 30  # at most: images are judged by other measures
LEVELS = (0.5, 0.9)


def ranks(truth: Tensor, draws: Tensor, seed: int = 0) -> Tensor:
    """The rank of each true value among draws of its conditional distribution, (N, D) from 0 to L.

    Uniform where the distribution is right. Equal values are in random order, so that this holds of integers too.

    Source: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts et al., 2018),
    arXiv:1804.06788, theorem 1.

    Args:
        truth: (N, D)
        draws: (L, N, D)

    Example:
        >>> ranks(torch.tensor([[2.5]]), torch.tensor([[[1.0]], [[2.0]], [[3.0]]]))
        tensor([[2]])
    """
    less, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    u = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return less + (u * (equal + 1)).long()


def uniformity_p(found: Tensor, draws: int, bins: int = 10) -> float:
    """The p-value of uniform ranks (N,) by the chi-square test; ``bins`` divides draws + 1."""
    counts = (found * bins // (draws + 1)).bincount(minlength=bins)
    return float(chisquare(counts.numpy()).pvalue)


def coverage(found: Tensor, draws: int, level: float) -> Tensor:
    """The share of true values in the central interval of this level, of ranks (N, D), (D,) float64.

    Right where it equals the level; below, the distribution is too narrow.
    """
    tail = round((draws + 1) * (1 - level) / 2)
    return ((found >= tail) & (found <= draws - tail)).double().mean(0)


@torch.no_grad()
def posterior_calibration(model: Model, seed: int = 0) -> dict[str, Any] | None:
    """Ranks of codes z ~ p(z) among draws of q(z|x), where x ~ p(x|z); None for a model without a joint density.

    They are uniform in every dimension if q(z|x) is the model's posterior. Where q is too narrow, z is too often
    outside of its intervals.

    Returns:
        ``coverage`` of intervals of 50 and 90 %, averaged over the ``dimensions`` of z; ``each``, the p-value of
        uniform ranks of every dimension, and ``p``, the least of them times their number; ``n``, ``draws``, ``rule``.
    """
    if not has(model, JointDensity):
        return None
    with evaluating(model):
        noise = Streams(seed, range(EXAMPLES), device_of(model))
        y = None if condition_of(model) is None else marginal_of(model).draw(noise)
        z = model.prior_code(noise, y)
        x = model.sample_given_code(z, y, seed=noise)
        drawn = torch.stack([model.sample_code(x, y) for _ in range(DRAWS)])
    found = ranks(z.flatten(1).cpu(), drawn.flatten(2).cpu(), seed)
    each = [uniformity_p(column, DRAWS) for column in found.unbind(1)]
    return {
        "coverage": {f"{level:.0%}": float(coverage(found, DRAWS, level).mean()) for level in LEVELS},
        "each": each,
        "p": min(1.0, min(each) * len(each)),
        "dimensions": len(each),
        "n": EXAMPLES,
        "draws": DRAWS,
        "rule": f"codes of the prior among {DRAWS} draws of q(z|x), where x is a sample given the code",
    }


def calibration(model: Model, dataset: Dataset, split: str, seed: int = 0) -> dict[str, Any] | None:
    """Ranks and coverage of p(x|y) of a conditional model of few numbers, or of p(x_d | others) of one that imputes.

    None for any other model, and for data whose numbers have no order.

    Returns:
        ``columns``, for each ordered number without missing values its ``name``, the ``coverage`` of intervals of 50
        and 90 %, and ``p`` of uniform ranks; ``n``, ``draws`` and ``rule``.
    """
    named = ordered(dataset)
    given = condition_of(model) is not None
    if not named or not (has(model, Samplable) if given else has(model, Imputing)):
        return None
    real = dataset.splits[split]
    x, y = real.batch(order(len(real), seed, 0)[:EXAMPLES], torch.Generator().manual_seed(seed))
    if given and y is None:
        return None
    drawn = draws_given(model, x, y, seed) if given else draws_of_each(model, x, seed)
    found, columns = ranks(x, drawn, seed), []
    for d, name in named.items():
        if not (x[:, d].isnan().any() or drawn[:, :, d].isnan().any()):
            of_levels = {f"{level:.0%}": float(coverage(found, DRAWS, level)[d]) for level in LEVELS}
            columns.append({"name": name, "coverage": of_levels, "p": uniformity_p(found[:, d], DRAWS)})
    rule = "the condition" if given else "all other columns"
    rule = f"true values among {DRAWS} draws of the model given {rule}"
    return {"columns": columns, "n": len(x), "split": split, "draws": DRAWS, "rule": rule} if columns else None


def ordered(dataset: Dataset) -> dict[int, str]:
    """The ordered numbers of x by their index, with their names; empty for images, text and large vectors."""
    space = dataset.space
    if len(space.shape) != 1 or space.dim > COLUMNS or space.kind not in ("record", "continuous", "levels"):
        return {}
    parts = scalars(space) if space.kind == "record" else [Space.continuous(())] * space.dim
    names = [column.name for column in dataset.columns]
    names = names if len(names) == space.dim else [str(k) for k in range(space.dim)]
    return {d: name for d, (part, name) in enumerate(zip(parts, names, strict=True)) if part.kind != "categories"}


def draws_given(model: Model, x: Tensor, y: Tensor | None, seed: int) -> Tensor:
    """Samples (L, N, D) given the condition of each example."""
    assert y is not None  # checked by `calibration`
    return sample(model, DRAWS * len(x), torch.cat([y] * DRAWS), seed=seed).view(DRAWS, *x.shape)


def draws_of_each(model: Model, x: Tensor, seed: int) -> Tensor:
    """Draws (L, N, D) of each number given all others."""
    many, drawn = x.repeat(DRAWS, 1), []
    for d in range(x.shape[1]):
        observed = torch.ones_like(many, dtype=torch.bool)
        observed[:, d] = False
        drawn.append(sample(model, len(many), given=many, observed=observed, seed=seed)[:, d])
    return torch.stack(drawn, 1).view(DRAWS, *x.shape)
