"""Confidence intervals of two-sample metrics by the delete-a-group jackknife with ten groups for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from scipy.special import stdtrit
from torch import Tensor

from dgm.data import order

FOLDS = 10
SEED = 0  # of the assignment to folds
LEVEL = 0.95

Folds: TypeAlias = Sequence[Tensor]  # a set of examples in parts, each (n_k, ...)


class LeftOut(NamedTuple):
    """M metrics of all examples, and of all but one fold.

    Attributes:
        value: (M,), of all examples.
        real: (G, M), without each fold of the real examples.
        generated: (H, M), without each fold of the samples.
    """

    value: Tensor
    real: Tensor
    generated: Tensor


def folds(x: Tensor) -> list[Tensor]:
    """Ten random folds of examples (N, ...), the same in every call; N folds where N is below ten.

    Random, since the order of the data may be periodic, such as that of labels.

    Example:
        >>> [len(fold) for fold in folds(torch.zeros(12, 2))]
        [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    shuffled = x[order(len(x), SEED, 0)]
    return [shuffled[k::FOLDS] for k in range(min(FOLDS, len(x)))]


def without(parts: Folds, k: int) -> list[Tensor]:
    return [part for other, part in enumerate(parts) if other != k]


def left_out(measure: Callable[[Folds, Folds], Tensor], real: Folds, generated: Folds) -> LeftOut:
    """Evaluates a measure, (M,) metrics of two sets of folds, with all folds and without each of several."""
    value = measure(real, generated)
    without_real = [measure(without(real, k), generated) for k in range(len(real)) if len(real) > 1]
    without_generated = [measure(real, without(generated, k)) for k in range(len(generated)) if len(generated) > 1]
    none = value[None][:0]
    return LeftOut(
        value,
        torch.cat([none, *(v[None] for v in without_real)]),
        torch.cat([none, *(v[None] for v in without_generated)]),
    )


def left_out_in_pairs(measure: Callable[[Tensor, Tensor], Tensor], x: Folds, y: Folds) -> LeftOut:
    """`left_out` of a measure of two sets of as many examples, (M,): fold k is left out of both.

    The two samples are independent, so the random pairs are a sample too, and their variance is that of the measure.
    """
    value = measure(torch.cat(list(x)), torch.cat(list(y)))
    kept = [(torch.cat(without(x, k)), torch.cat(without(y, k))) for k in range(len(x)) if len(x) > 1]
    none = value[None][:0]
    return LeftOut(value, torch.cat([none, *(measure(*pair)[None] for pair in kept)]), none)


def half_width(estimates: LeftOut) -> Tensor:
    r"""Half the width of a 95 % interval around ``value``, (M,) float64.

    .. math:: se^2 = \frac{g-1}{g} \sum_i (v_{-i} - \bar v)^2 + \frac{h-1}{h} \sum_j (v_{-j} - \bar v)^2

    over the g folds of the real examples and the h folds of the samples: both were drawn, and a variance of two
    independent samples is the sum of the two. The quantile is Student's, with Satterthwaite's degrees of freedom. Where
    the two distributions are equal, the kernel and the Fréchet distance have only second-order variance, which a
    jackknife overestimates by a factor of up to two: the interval is then too wide and never too narrow.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 11.5 (groups) and 11.6; Arvesen,
    Jackknifing U-statistics (1969), for two samples; Efron & Stein, The jackknife estimate of variance (1981), for its
    bias upwards; Satterthwaite (1946).
    """
    sides = [side.double() for side in (estimates.real, estimates.generated) if len(side) > 1]
    variances = torch.stack([(len(s) - 1) / len(s) * (s - s.mean(0)).square().sum(0) for s in sides])
    total = variances.sum(0)
    fold_freedom = torch.tensor([len(side) - 1.0 for side in sides], dtype=torch.float64)[:, None]
    freedom = total.square() / (variances.square() / fold_freedom).sum(0)
    quantile = torch.as_tensor(stdtrit(freedom.numpy(), (1 + LEVEL) / 2))
    return torch.where(total == 0, 0.0, quantile * total.sqrt())  # NaN where a measure needs every fold
