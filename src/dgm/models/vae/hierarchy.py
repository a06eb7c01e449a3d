r"""Models with a chain of latent variables: the generative chain, whitened codes and likelihoods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from dgm.models.vae.base import NetworkConfig, WarmedUp, log_normals, repeated
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting
from dgm.space import Space

# bounds of the log standard deviations: networks can move each level to any scale, and divergences divide by them
LOG_SIGMAS = (-3.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class HierarchyConfig(NetworkConfig):
    latents: tuple[int, ...] = setting((16, 8), "dimensions of z_1 to z_T, the one beside x first", low=1)
    warmup: int = setting(0, "steps over which the weight of the Kullback-Leibler term rises to 1; 0 for none", low=0)


class Level(NamedTuple):
    """One latent variable z, with the moments of its posterior q and of its prior p given the variables above it."""

    z: Tensor
    q_mu: Tensor
    q_log_sigma: Tensor
    p_mu: Tensor
    p_log_sigma: Tensor


Draw: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def drawn(mu: Tensor, log_sigma: Tensor) -> Tensor:
    return mu + log_sigma.exp() * torch.randn_like(mu)


class Hierarchy(WarmedUp):
    r"""A chain of T latent variables. Abstract: the posterior is a subclass's.

    .. math:: p(x, z_{1:T}) = p(x|z_1) \prod_{t=1}^{T-1} p(z_t|z_{t+1}) \, p(z_T), \quad p(z_t|z_{t+1}) = N(\mu_t,
        \sigma_t^2), \quad p(z_T) = N(0, I)

    The code of x is whitened by the prior: (z_t - mu_t(z_{t+1})) / sigma_t(z_{t+1}) of all levels, the top one first,
    whose distribution is N(0, I). So a change of any number of the code moves the levels below it along, and any
    density of codes can take the prior's place.
    """

    first_inferred: ClassVar[Literal["top", "bottom"]]

    def __init__(self, space: Space, config: HierarchyConfig, condition: Space | None = None) -> None:
        super().__init__(space, config, condition, code=sum(config.latents))

    def build(self) -> None:
        sizes = self.config.latents
        self.priors = nn.ModuleList(self.between(above, 2 * below) for below, above in reversed(list(pairwise(sizes))))
        self.decoder = self.decoding(sizes[0])

    def between(self, inputs: int, outputs: int) -> nn.Module:
        """A network between two levels, which also gets the condition."""
        return mlp([inputs + self.features.width, *self.widths, outputs])

    @abstractmethod
    def evidence(self, x: Batch, y: Conditions | None) -> list[tuple[Tensor, Tensor]]:
        """What a deterministic pass upwards finds in x: mu and log sigma of normal distributions."""

    @abstractmethod
    def levels(self, evidence: list[tuple[Tensor, Tensor]], y: Conditions | None, draw: Draw = drawn) -> list[Level]:
        """The levels given the evidence, the top one first.

        Args:
            draw: A value of a level's normal posterior from its mu and log sigma. It is called for each level in the
                order of inference, from ``first_inferred`` on.
        """

    def infer(self, x: Batch, y: Conditions | None, draw: Draw = drawn) -> list[Level]:
        """The levels of x, the top one first."""
        return self.levels(self.evidence(x, y), y, draw)

    def prior(self, k: int, above: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor]:
        """mu and log sigma of the k-th prior below the top."""
        return moments(self.priors[k](self.beside(above, y)))

    def decoded(self, z: Tensor, y: Conditions | None) -> Tensor:
        """z_1 of a whitened code."""
        above, *rest = z.split(self.config.latents[::-1], -1)
        for k, eps in enumerate(rest):
            mu, log_sigma = self.prior(k, above, y)
            above = mu + log_sigma.exp() * eps
        return above

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        levels = self.infer(x, y)
        log_q = torch.cat([log_normals(v.z, v.q_mu, v.q_log_sigma) + v.p_log_sigma for v in levels], -1).sum(-1)
        return whitened(levels), self.likelihood_of(x, levels, y) - log_q

    def log_weights(
        self, x: Batch, y: Conditions | None = None, *, draws: int, kl_weight: Tensor | float = 1.0
    ) -> Tensor:
        """``draws`` of log w of each example, (draws, B), for which the pass upwards is evaluated once."""
        evidence = [(repeated(mu, draws), repeated(log_sigma, draws)) for mu, log_sigma in self.evidence(x, y)]
        y = None if y is None else repeated(y, draws)
        levels = self.levels(evidence, y)
        log_w = self.likelihood_of(x, levels, y) - kl_weight * log_ratios(levels).sum(-1)
        return log_w.unflatten(0, (draws, len(x)))

    def likelihood_of(self, x: Batch, levels: list[Level], y: Tensor | None) -> Tensor:
        """log p(x|z_1) of each z_1, of which there may be several for each x, in the order of `repeated`.

        ``y`` has a condition for each z_1.
        """
        z = levels[-1].z
        outputs = self.outputs_of(z, y).unflatten(0, (len(z) // len(x) if len(x) else 1, len(x)))
        return self.observed.log_prob(outputs, x).flatten(2).sum(2).flatten()

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.objective(x, y, 1.0)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.objective(x, y, self.kl_weight)

    def objective(self, x: Batch, y: Conditions | None, weight: Tensor | float) -> PerExample:
        """The bound with a weight of the divergence."""
        levels = self.infer(x, y)
        return self.likelihood_of(x, levels, y) - weight * self.divergences(levels).sum(-1)

    def divergence(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.divergences(self.infer(x, y))

    def divergences(self, levels: list[Level]) -> Tensor:
        """Of each dimension of every level, (B, code): at its z, so that the mean is the divergence."""
        return log_ratios(levels)

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return whitened(self.infer(x, y))

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The whitened code at the posterior's means, (B, code)."""
        return whitened(self.infer(x, y, lambda mu, _: mu))


def log_ratios(levels: list[Level]) -> Tensor:
    """log q - log p of each dimension of every level at its z, (B, code)."""
    each = [log_normals(v.z, v.q_mu, v.q_log_sigma) - log_normals(v.z, v.p_mu, v.p_log_sigma) for v in levels]
    return torch.cat(each, -1)


def whitened(levels: list[Level]) -> Tensor:
    return torch.cat([(v.z - v.p_mu) / v.p_log_sigma.exp() for v in levels], -1)


def moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """mu and the bounded log sigma."""
    mu, log_sigma = outputs.chunk(2, -1)
    return mu, log_sigma.clamp(*LOG_SIGMAS)
