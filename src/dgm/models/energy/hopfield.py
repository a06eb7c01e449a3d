r"""Hopfield network: an associative memory whose states descend an energy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.errors import BadInput
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

ROUNDING = 1e-9  # of the input of a unit
UNFITTED = 100  # patterns, at most, of a network before its fit


class Hopfield(nn.Module):
    r"""Hopfield network of D units s_i = ±1 that stores P patterns; an unnormalised log-likelihood.

    .. math:: E(s) = -\tfrac12 \sum_{i \ne j} W_{ij} s_i s_j, \qquad W_{ij} = \frac{1}{D} \sum_{\mu=1}^P \xi^\mu_i
        \xi^\mu_j, \qquad s_i \leftarrow \operatorname{sign} \Big( \sum_{j \ne i} W_{ij} s_j \Big)

    s is 1 for a one and for a level above the middle, -1 otherwise. Units are updated one after the other, and a unit
    with no input keeps its state. W is symmetric without a diagonal, so that no update raises E and every state ends in
    a local minimum: a pattern, its complement, or a mixture of them. Up to P = 0.138 D random patterns are minima with
    few errors, and beyond that nearly none are. Patterns that resemble one another, such as images of digits, merge
    into one mixture at much smaller P; the projection rule, W = Xi (Xi^T Xi)^-1 Xi^T with the patterns as columns of
    Xi, keeps each of them. A sample is the minimum that a random state ends in.

    Source: Neural networks and physical systems with emergent collective computational abilities (Hopfield, 1982),
    equations 1, 2 and 7, with thresholds of 0; the capacity, Amit, Gutfreund & Sompolinsky, 1985; the projection
    rule, Personnaz, Guyon & Dreyfus, 1985. Differs from it:
    units in order instead of at random.

    Args:
        space: Binary or levels, of at least two dimensions.

    Example:
        >>> memory = Hopfield(Space.binary((4,)), Hopfield.Config(patterns=1))
        >>> _ = list(memory.fit([(torch.tensor([[1, 1, 0, 0]]), None)]))
        >>> memory.retrieve(torch.tensor([[1, 1, 0, 1]]))
        tensor([[1, 1, 0, 0]], dtype=torch.uint8)
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        patterns: int = setting(8, "P, training examples that are stored", low=1, high=100_000)
        rule: Literal["hebb", "projection"] = setting("hebb", "how W follows from the patterns")
        sampling_steps: int = setting(20, "sweeps over all units, at most", low=1, high=100_000)

    spaces: ClassVar[set[str]] = {"binary", "levels"}

    W: Tensor
    fitted: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        if space.dim < 2:
            raise BadInput("a Hopfield network needs at least two units, got 1", "give examples of more dimensions")
        self.space, self.config = space, config
        # before the fit: random patterns, few of them, since a loaded model has them too
        start = torch.randint(
            2, (min(config.patterns, UNFITTED), space.dim), generator=torch.Generator().manual_seed(space.dim)
        )
        self.register_buffer("W", RULES[config.rule](2.0 * start.double() - 1))
        self.register_buffer("fitted", torch.tensor(False))

    def signs(self, x: Batch) -> Tensor:
        """s (B, D), float64, so that the order of a sum does not change its sign."""
        return 2.0 * (x.flatten(1) > ((self.space.values or 2) - 1) / 2).double() - 1

    def values(self, s: Tensor) -> Batch:
        """The smallest and the largest value in the place of -1 and 1."""
        x = (s > 0) * ((self.space.values or 2) - 1)
        return x.unflatten(1, self.space.shape).to(self.space.dtype)

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        s = self.signs(x)
        return (-0.5 * ((s @ self.W) * s).sum(1)).to(torch.get_default_dtype())

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """Stores the first examples in one pass, and yields their mean energy."""
        if self.fitted:
            return
        kept: list[Tensor] = []
        for x, _ in batches:
            kept.append(x[: self.config.patterns - sum(map(len, kept))])
            if sum(map(len, kept)) >= self.config.patterns:
                break
        patterns = torch.cat(kept)
        if len(patterns) < self.config.patterns:
            wrong = f"{self.config.patterns:,} patterns are to be stored, and there are {len(patterns):,} examples"
            raise BadInput(wrong, f"train with --model.patterns {len(patterns)}, or with more data")
        self.W.copy_(RULES[self.config.rule](self.signs(patterns)))
        self.fitted.fill_(True)
        yield float(self.energy(patterns).mean())

    def descent(self, s: Tensor) -> Iterator[Tensor]:
        """The states after each sweep."""
        s = s.clone()
        for _ in range(self.config.sampling_steps):
            for i in range(self.space.dim):
                field = s @ self.W[i]
                s[:, i] = torch.where(field.abs() < ROUNDING, s[:, i], field.sign())
            yield s.clone()

    def retrieve(self, x: Batch) -> Batch:
        """The minimum that each x ends in."""
        *_, s = self.descent(self.signs(x))
        return self.values(s)

    @torch.no_grad()
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """From random states."""
        u = streams(n, seed, self.W.device).uniform((self.space.dim,))
        for k, s in enumerate(self.descent(torch.where(u < 0.5, -1.0, 1.0).double()), 1):
            yield State(self.values(s), k, self.config.sampling_steps)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        for state in self.trajectory(n, y, seed=seed):
            x = state.x
        return x


def hebb(patterns: Tensor) -> Tensor:
    """W of patterns (P, D)."""
    return (patterns.mT @ patterns / patterns.shape[1]).fill_diagonal_(0)


def projection(patterns: Tensor) -> Tensor:
    """The projection onto the span of the patterns (P, D), without its diagonal."""
    return (torch.linalg.pinv(patterns) @ patterns).fill_diagonal_(0)


RULES = {"hebb": hebb, "projection": projection}
