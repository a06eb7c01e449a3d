r"""Base distributions p(z) of flows on R^D: a normal, a mixture of normals, and a resampled normal.

Each has ``log_prob(z)``, in nats for each example and with respect to Lebesgue measure, and ``sample(noise)``, one draw
for each stream of `dgm.seeds.Streams`. Any of them is the base of any flow: see `base`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.quasirandom import SobolEngine

from dgm.errors import UnknownName
from dgm.networks.mlp import mlp
from dgm.protocols import PerExample
from dgm.seeds import Streams

COMPONENTS = 16  # of the mixture
ATTEMPTS = 100  # T of the resampled base, as in the paper
HIDDEN = 128  # width of the acceptance network
DRAWS = 1024  # of the normal at each training step, for the normaliser Z
POINTS = 1 << 14  # of a fixed quasi-random set, for Z in evaluation
LARGEST = 1 << 24  # numbers of that set


class Base(nn.Module, ABC):
    """A distribution on R^D of examples of shape ``shape``.

    Attributes:
        exact: Whether the log-density is exact; an estimated normaliser makes it an estimate.
        reparameterised: Whether a sample is a differentiable function of the parameters.
    """

    exact: ClassVar[bool] = True
    reparameterised: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.dim = shape, math.prod(shape)

    @abstractmethod
    def log_prob(self, z: Tensor) -> PerExample:
        """log p(z) in nats, (B,), of z (B, *shape)."""

    @abstractmethod
    def sample(self, noise: Streams) -> Tensor:
        """One draw for each stream, (n, *shape)."""


class Normal(Base):
    """N(0, I)."""

    reparameterised = True

    def log_prob(self, z: Tensor) -> PerExample:
        return log_normal(z)

    def sample(self, noise: Streams) -> Tensor:
        return noise.normal(self.shape)


class Mixture(Base):
    r"""A mixture of normals with diagonal covariances and learnt weights, means and scales.

    .. math:: p(z) = \sum_k \pi_k N(z; \mu_k, \operatorname{diag}(\sigma_k^2))

    It lets a flow, whose inverse is continuous, have separate modes. The means start at draws of N(0, I), the scales at
    1 and the weights equal.

    Source: Semi-Supervised Learning with Normalizing Flows (Izmailov et al., 2019), arXiv:1912.13025, section 3, where
    the components are classes.
    """

    def __init__(self, shape: tuple[int, ...], components: int = COMPONENTS) -> None:
        super().__init__(shape)
        self.logits = nn.Parameter(torch.zeros(components))
        self.mu = nn.Parameter(torch.randn(components, self.dim))
        self.log_sigma = nn.Parameter(torch.zeros(components, self.dim))

    def log_prob(self, z: Tensor) -> PerExample:
        white = (z.flatten(1)[:, None] - self.mu) * (-self.log_sigma).exp()
        log_components = log_normal(white.flatten(0, 1)).view(len(z), -1) - self.log_sigma.sum(1)
        return (self.logits.log_softmax(0) + log_components).logsumexp(1)

    def sample(self, noise: Streams) -> Tensor:
        k = noise.categorical(self.logits.expand(len(noise), -1))
        z = self.mu[k] + self.log_sigma[k].exp() * noise.normal((self.dim,)).to(self.mu)
        return z.unflatten(1, self.shape)


class Resampled(Base):
    r"""A normal whose draws are accepted with a learnt probability a(z), the T-th draw always; an estimate.

    .. math:: p(z) = \Big( (1 - \alpha_T) \frac{a(z)}{Z} + \alpha_T \Big) N(z; 0, I), \qquad
        Z = E_{N(z; 0, I)}[a(z)], \quad \alpha_T = (1 - Z)^{T - 1}

    Z is a mean over fresh draws of the normal in training, and over a fixed quasi-random set of up to 16,384
    points in evaluation. log p(z) is normalised up to the relative error of that mean.

    Source: Resampling Base Distributions of Normalizing Flows (Stimper et al., 2022), arXiv:2110.15828, section 3; the
    truncation, Resampled Priors for Variational Autoencoders (Bauer & Mnih, 2018), arXiv:1810.11428, section 3.
    Differs from it: Z has no moving average over training steps; a(z) is one network for all dimensions of an image.
    """

    exact = False

    def __init__(self, shape: tuple[int, ...], attempts: int = ATTEMPTS, hidden: int = HIDDEN) -> None:
        super().__init__(shape)
        self.attempts = attempts
        self.network = mlp([self.dim, hidden, hidden, 1])

    @property
    def weight(self) -> Tensor:
        """The first weights, for their dtype and device."""
        return next(self.network.parameters())

    def log_acceptance(self, z: Tensor) -> PerExample:
        """log a(z)."""
        return logsigmoid(self.network(z.flatten(1))[:, 0])

    def log_z(self) -> Tensor:
        """log Z, a scalar."""
        z = (torch.randn(DRAWS, self.dim) if self.training else normal_points(self.dim)).to(self.weight)
        return self.log_acceptance(z).logsumexp(0) - math.log(len(z))

    def log_prob(self, z: Tensor) -> PerExample:
        log_z = self.log_z()
        log_alpha = (self.attempts - 1) * log_one_minus_exp(log_z)
        accepted = log_one_minus_exp(log_alpha) + self.log_acceptance(z) - log_z
        return torch.logaddexp(accepted, log_alpha.expand_as(accepted)) + log_normal(z)

    @torch.no_grad()
    def sample(self, noise: Streams) -> Tensor:
        """Each stream draws T normals, whichever of them is accepted."""
        z = noise.normal((self.dim,)).to(self.weight)
        pending = torch.arange(len(noise), device=z.device)
        for _ in range(self.attempts - 1):
            u, following = noise.uniform(()).to(z), noise.normal((self.dim,)).to(z)
            pending = pending[u[pending].log() >= self.log_acceptance(z[pending])]
            z[pending] = following[pending]
        return z.unflatten(1, self.shape)


BASES: Mapping[str, type[Base]] = {"normal": Normal, "mixture": Mixture, "resampled": Resampled}


def base(name: str, shape: tuple[int, ...]) -> Base:
    """The base distribution of this name, of examples of this shape.

    Raises:
        UnknownName: If there is no base distribution of this name.

    Example:
        >>> base("normal", (2,)).log_prob(torch.zeros(1, 2))  # -log(2 pi)
        tensor([-1.8379])
    """
    if name not in BASES:
        raise UnknownName.of("base distribution", name, BASES)
    return BASES[name](shape)


def log_normal(z: Tensor) -> PerExample:
    """log N(z; 0, I)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def log_one_minus_exp(log_p: Tensor) -> Tensor:
    """log(1 - p) for log p < 0, accurate for p near 0 and near 1."""
    log_p = log_p.clamp_max(-torch.finfo(log_p.dtype).eps)
    small = log_p < -math.log(2)
    near_0 = torch.log1p(-log_p.where(small, -math.log(2)).exp())
    return near_0.where(small, (-torch.expm1(log_p.where(~small, -math.log(2)))).log())


@lru_cache(maxsize=2)
def normal_points(dim: int) -> Tensor:
    """The same points of N(0, I) at each call, (n, dim): a scrambled Sobol sequence through the normal quantile."""
    n = 1 << min(POINTS.bit_length() - 1, (LARGEST // dim).bit_length() - 1)
    u = SobolEngine(dim, scramble=True, seed=0).draw(n, dtype=torch.float64)
    return torch.special.ndtri(u.clamp(2.0**-32, 1 - 2.0**-32)).float()
