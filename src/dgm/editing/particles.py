r"""Some dimensions of x given any others, by particles of a model with p(x) = prod p(x_i | x_<i).

The dimensions are drawn in the order of the model. Each of P particles draws the missing dimensions from their
conditionals, and each observed dimension multiplies the particle's weight by its probability,

.. math:: w^{(p)} = \prod_{i \in o} p(x_i | x^{(p)}_{<i}), \qquad E \frac1P \sum_p w^{(p)} = p(x_o)

Particles are resampled where few have most of the weight. A particle that is drawn by its weight is a draw of
p(x_m | x_o) for P to infinity. It is an exact one with a single particle where all observed dimensions come first.

Source: Sequential Monte Carlo samplers as importance sampling with resampling, An introduction to sequential Monte
Carlo methods (Doucet, de Freitas & Gordon, 2001), section 1.3; systematic resampling, Carpenter, Clifford & Fearnhead,
1999.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm.distributions.columns import Columns, Missing
from dgm.distributions.output import OutputDistribution
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Streams, categorical

FEW = 0.5  # share of the particles that the weights must be worth, or else these are resampled


class Drawn(NamedTuple):
    """Completed examples.

    Attributes:
        x: (B, D), flattened.
        log_p: An estimate of log p(x_o), (B,); its exponential has the mean p(x_o).
        effective: The number of draws that the weights are worth, (B,).
    """

    x: Tensor
    log_p: PerExample
    effective: PerExample


@dataclass(frozen=True)
class Factors:
    """The factors of p(x) in one order.

    Attributes:
        conditionals: From (N, *shape) and conditions to the outputs of every dimension, (N, D, outputs), of which those
            of a dimension depend on the earlier ones alone. The second axis is in raster order.
        order: The place of each dimension in the raster order, in the order of the factors.
        raster: The dimension at each place of the raster order.
        observed: The output distribution.
        shape: The shape of one example.
    """

    conditionals: Callable[[Batch, Conditions | None], Tensor]
    order: Sequence[int]
    raster: Sequence[int]
    observed: OutputDistribution
    shape: tuple[int, ...]


@torch.no_grad()
def drawn(
    factors: Factors, x: Tensor, seen: Tensor, y: Conditions | None, noise: Streams, *, present: bool, particles: int
) -> Drawn:
    """
    Args:
        x: (B, D); the values that are not observed are not used.
        seen: bool (B, D), true for the observed numbers.
        present: Whether the values that are drawn are known not to be missing.
        particles: P, of a row in whose order something is observed after something that is not.
    """
    dims = [factors.raster[place] for place in factors.order]
    everywhere, somewhere = (getattr(seen[:, dims], all_or_any)(0).tolist() for all_or_any in ("all", "any"))
    first = next((k for k, known in enumerate(everywhere) if not known), len(dims))
    last = max((k + 1 for k, known in enumerate(somewhere) if known), default=0)
    u = noise.uniform((particles if last > first else 1, x.shape[1], 3))
    x = x.where(seen, torch.zeros_like(x))
    cloud = Cloud(x[:, None].repeat(1, u.shape[1], 1), beginning(factors, x, dims[:first], y))
    for k, dim in enumerate(dims[first:], first):
        if k == last:
            cloud.choose(u[:, 0, dim, 2])
        of_y = None if y is None else y.repeat_interleave(cloud.x.shape[1], 0)
        outputs = factors.conditionals(cloud.x.view(-1, *factors.shape), of_y)[:, factors.order[k]]
        numbers = u[:, : cloud.x.shape[1], dim]
        free, log_present = value(factors.observed, outputs, numbers[..., :2].flatten(0, 1), dim, present=present)
        known = factors.observed.log_prob(outputs, cloud.x[..., dim].flatten(), dim)
        cloud.extend(dim, seen[:, dim, None], known.double(), free, log_present.double())
        cloud.resample(numbers[:, 0, 2])
    cloud.choose(noise.uniform((1,))[:, 0])
    return Drawn(cloud.x[:, 0], cloud.log_p, cloud.effective)


def beginning(factors: Factors, x: Tensor, dims: Sequence[int], y: Conditions | None) -> PerExample:
    """log p of the first dimensions, which are observed in all rows and need one pass."""
    log_p = x.new_zeros(len(x), dtype=torch.float64)
    outputs = factors.conditionals(x.view(-1, *factors.shape), y) if dims else None
    for place, dim in zip(factors.order, dims, strict=False):
        log_p += factors.observed.log_prob(outputs[:, place], x[:, dim], dim).double()  # type: ignore[index]
    return log_p


class Cloud:
    """The particles of each row, (B, P, D), and their weights.

    Attributes:
        log_p: log p of the observed dimensions so far, without the present weights; with them after `choose`.
        effective: The least number of draws so far that the weights are worth.
    """

    def __init__(self, x: Tensor, log_p: Tensor) -> None:
        self.x, self.log_p = x, log_p
        self.log_w = log_p.new_zeros(x.shape[:2])
        self.effective = torch.full_like(log_p, torch.inf)

    def extend(self, dim: int, seen: Tensor, known: Tensor, free: Tensor, log_present: Tensor) -> None:
        """Weighs a dimension where it is observed, and takes the value ``free`` where it is not."""
        shape = self.log_w.shape
        self.log_w = self.log_w + torch.where(seen, known.view(shape), log_present.view(shape))
        self.x[..., dim] = torch.where(seen, self.x[..., dim], free.to(self.x).view(shape))

    def resample(self, u: Tensor) -> None:
        """By systematic resampling, the rows where few particles have most of the weight."""
        if (particles := self.x.shape[1]) == 1:
            return
        self.effective = torch.minimum(self.effective, worth(self.log_w))
        few = worth(self.log_w) < FEW * particles
        of_row = systematic(self.log_w, u)[..., None].expand_as(self.x)
        self.x = torch.where(few[:, None, None], self.x.gather(1, of_row), self.x)
        self.log_p = self.log_p + torch.where(few, mean_weight(self.log_w), 0.0)
        self.log_w = torch.where(few[:, None], 0.0, self.log_w)

    def choose(self, u: Tensor) -> None:
        """Keeps one particle, drawn by its weight."""
        kept = categorical(self.log_w, u)
        self.log_p = self.log_p + mean_weight(self.log_w)
        self.x, self.log_w = self.x[torch.arange(len(kept)), kept][:, None], self.log_w.new_zeros(len(kept), 1)


def value(
    observed: OutputDistribution, outputs: Tensor, u: Tensor, dim: int, *, present: bool
) -> tuple[Tensor, Tensor]:
    """A draw of one dimension, and the log-probability that it is not missing, where that is known, else 0."""
    column = observed.of(dim) if isinstance(observed, Columns) else None
    if not (present and isinstance(column, Missing)):
        return observed.sample(outputs, u, dim), outputs.new_zeros(len(outputs))
    logit, of_value = outputs[:, 0], outputs[:, 1 : column.outputs]
    return column.known.sample(of_value, u), logsigmoid(-logit)  # type: ignore[operator]


def mean_weight(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def worth(log_w: Tensor) -> Tensor:
    """The effective number of draws of weights (B, P): 1 / sum_p w_p^2 of normalised ones."""
    return (-(2 * log_w.log_softmax(1)).logsumexp(1)).exp()


def systematic(log_w: Tensor, u: Tensor) -> Tensor:
    """P indices of particles by their weights: the inverse of the cumulative weights at (u + p) / P."""
    cumulative = log_w.softmax(1).cumsum(1)
    points = (u[:, None] + torch.arange(log_w.shape[1], device=u.device)).double() / log_w.shape[1]
    return torch.searchsorted(cumulative, points, right=True).clamp_max(log_w.shape[1] - 1)
