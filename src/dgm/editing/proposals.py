r"""Some dimensions of x given any others, by importance sampling from the density of the model.

x is represented by real numbers v, as in `dgm.distributions.cells`, with the density p(v). The missing part of v is
drawn K times from a mixture of Gaussians q that is fitted to samples of the model, whose conditionals are exact, and
one of the draws is chosen by its weight,

.. math:: w = \frac{p(v_o, v_m)}{q(v_m | v_o) \, q(v_o | x_o)}, \qquad E w = p(x_o)

with q(v_o | x_o) the noise within the cells of the observed values. It is a draw of p(x_m | x_o) for K to infinity. A
part of q is broader than the model, so that the weights are bounded where the fit is narrow.

Source: Using the SIR algorithm to simulate posterior distributions (Rubin, 1988), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dgm.distributions.cells import RecordCells, UnitCells, cells
from dgm.distributions.gaussian_mixture import Gaussians
from dgm.editing.particles import Drawn, mean_weight, worth
from dgm.likelihood import Kind, evaluation_batch
from dgm.models.mixture.gmm import GMM
from dgm.protocols import Conditions, ExactLikelihood, ImportanceWeighted, Model, Unnormalised, has
from dgm.seeds import Streams, categorical, mix
from dgm.space import Space

SAMPLES = 4096  # of the model, that the proposal is fitted to
COMPONENTS, PASSES = 16, 40  # of the proposal, and passes of its fit at most
BROAD, TIMES = 0.1, 4.0  # the share of the broad part of the proposal, and its covariance in those of all samples
OWN = 3  # of the random streams of the proposal


class Representation:
    """x as real numbers v, of which some are observed, and their density p(v).

    A model of real numbers has v = x. A dequantised one has a density of v; any other model of a record has the density
    P(x) q(v|x), with q uniform on the cell of x.
    """

    def __init__(self, model: Model) -> None:
        self.part, self.space = model, model.space
        self.cells: RecordCells | UnitCells | None = None
        if model.space.kind == "continuous":
            return
        self.cells = cells(model.space)
        if hasattr(model, "cells") and hasattr(model, "model"):
            self.part, self.cells = model.model, model.cells

    @property
    def dim(self) -> int:
        return self.space.dim if self.cells is None else self.cells.box.dim

    @property
    def kind(self) -> Kind | None:
        """The kind of likelihood of the part, whose `log_density` is used; None where it has none."""
        if has(self.part, ExactLikelihood):
            return Kind.EXACT
        if has(self.part, ImportanceWeighted):
            return Kind.LOWER_BOUND
        return Kind.UNNORMALISED if has(self.part, Unnormalised) else None

    def spread(self, seen: Tensor, *, present: bool) -> Tensor:
        return self.cells.spread(seen, present=present) if isinstance(self.cells, RecordCells) else seen

    def lifted(self, x: Tensor, noise: Streams, draws: int) -> tuple[Tensor, Tensor]:
        """v of each of (B, D), (B, draws, E), and log q of its dimensions."""
        if self.cells is None:
            return x.double()[:, None].repeat(1, draws, 1), x.new_zeros((), dtype=torch.float64)
        u, eps = (draw((draws, self.dim)).double() for draw in (noise.uniform, noise.normal))
        if isinstance(self.cells, UnitCells):
            return x.double()[:, None] + u, x.new_zeros((), dtype=torch.float64)
        whole = self.part.space == self.space  # the noise of `log_noise`
        share = {"share": 1.0} if whole else {}
        v, log_q = self.cells.noisy(x.repeat_interleave(draws, 0), u.flatten(0, 1), eps.flatten(0, 1), **share)
        return v.view(len(x), draws, -1), log_q.view(len(x), draws, -1)

    def floor(self, v: Tensor) -> Tensor:
        if self.cells is None:
            return v.to(self.space.dtype)
        return self.cells.floor(v.view(-1, *self.cells.box.shape)).flatten(1)

    def log_density(self, v: Tensor, y: Conditions | None) -> Tensor:
        """log p(v) of (N, E), float64."""
        shaped = v.view(-1, *(self.space.shape if self.cells is None else self.cells.box.shape))
        if self.cells is None or self.part.space != self.space:
            return self.of_part(shaped.to(torch.get_default_dtype()), y)
        x = self.cells.floor(shaped)
        log_q = self.cells.log_noise(shaped, x) if isinstance(self.cells, RecordCells) else 0.0
        return self.of_part(x, y) + log_q

    def of_part(self, x: Tensor, y: Conditions | None) -> Tensor:
        of = {Kind.EXACT: "log_prob", Kind.LOWER_BOUND: "log_weight", Kind.UNNORMALISED: "energy"}[self.kind]  # type: ignore[index]
        sign = -1 if self.kind is Kind.UNNORMALISED else 1
        rows = torch.arange(len(x)).split(8 * evaluation_batch(self.part))
        found = [getattr(self.part, of)(x[part], None if y is None else y[part]) for part in rows]
        return sign * torch.cat(found).double()

    def samples(self, n: int, seed: int) -> Tensor:
        """v of samples of the model, (n, E)."""
        x = self.part.sample(n, seed=Streams(mix(seed, OWN), range(n)))
        if self.cells is None or self.part.space != self.space:
            return x.flatten(1).double()
        return self.lifted(x.flatten(1), Streams(mix(seed, OWN + 1), range(n)), 1)[0][:, 0]


class Proposal:
    """q(v_m | v_o): a mixture of Gaussians, of v that is standardised by its samples."""

    def __init__(self, v: Tensor, seed: int) -> None:
        self.loc, self.scale = v.mean(0), v.std(0).clamp_min(1e-9)
        s = (v - self.loc) / self.scale
        fitted = GMM(Space.continuous((s.shape[1],)), GMM.Config(components=COMPONENTS, ridge=1e-2))
        with torch.random.fork_rng():
            torch.manual_seed(mix(seed, OWN + 2) >> 1)
            for _ in islice(fitted.fit([(s.float(), None)]), PASSES):
                pass
        narrow, eye = fitted.gaussians, torch.eye(s.shape[1], dtype=torch.float64)
        root = torch.linalg.cholesky(TIMES * (s.mT.cov().reshape(eye.shape) + 1e-2 * eye))
        weights = torch.cat([narrow.log_weights + math.log(1 - BROAD), torch.tensor([math.log(BROAD)]).double()])
        means = torch.cat([narrow.means, s.mean(0, keepdim=True)])
        self.gaussians = Gaussians(weights, means, torch.cat([narrow.roots, root[None]]))

    def completed(self, v: Tensor, seen: Tensor, noise: Streams) -> tuple[Tensor, Tensor]:
        """v with draws of v_m, and log q(v_m | v_o)."""
        s = self.gaussians.completed((v - self.loc) / self.scale, seen, noise)
        log_q = self.gaussians.log_prob(s) - (self.scale.log() * ~seen).sum(1)
        log_q = log_q - self.gaussians.log_prob_observed(s, seen)
        return torch.where(seen, v, s * self.scale + self.loc), log_q


@torch.no_grad()
def drawn(
    model: Representation,
    proposal: Proposal,
    x: Tensor,
    seen: Tensor,
    y: Conditions | None,
    noise: Streams,
    of_proposal: Callable[[int], Streams],
    *,
    present: bool,
    draws: int,
) -> Drawn:
    """
    Args:
        x: (B, D), valid values also where nothing is observed, which are not used.
        seen: bool (B, D), true for the observed numbers.
        of_proposal: The random streams of B times as many draws.
        present: Whether the values that are drawn are known not to be missing.
        draws: K.
    """
    v, log_noise = model.lifted(x, noise, draws)
    known = model.spread(seen, present=present)[:, None].expand_as(v)
    log_noise = torch.where(known, log_noise, 0.0).sum(2)
    v, log_q = proposal.completed(v.flatten(0, 1), known.flatten(0, 1), of_proposal(draws))
    of_y: Any = None if y is None else y.repeat_interleave(draws, 0)
    log_w = (model.log_density(v, of_y) - log_q).view(len(x), draws) - log_noise
    last = categorical(log_w, noise.uniform((1,))[:, 0])
    found = model.floor(v.view(len(x), draws, -1)[torch.arange(len(x)), last])
    return Drawn(found, mean_weight(log_w), worth(log_w))
