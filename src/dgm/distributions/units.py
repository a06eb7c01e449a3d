r"""The visible units of a Boltzmann machine: distributions of an exponential family given the input of other units.

.. math:: p(v | \eta) = m(v) \exp \big( t(v)^T \eta - A(\eta) \big)

v is a flat batch (..., D) of scaled examples, and eta, the natural parameters, has its shape. Both kinds of units have
``encode`` and ``decode``, between the data and v, and ``ladj``, the log-determinant of ``encode``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.distributions.scaling import Scaling
from dgm.protocols import Batch
from dgm.seeds import SHARE
from dgm.space import Space

NARROWEST = 0.05  # standard deviation of a scaled Gaussian unit, at least
RAREST = 0.01  # probability of a one, and of a zero, that biases start from, at least


@runtime_checkable
class Noise(Protocol):
    """Random numbers of shape (n, *shape): those of `dgm.seeds.Streams`, or of `Draws`."""

    def uniform(self, shape: tuple[int, ...]) -> Tensor: ...
    def normal(self, shape: tuple[int, ...]) -> Tensor: ...


class Draws:
    """The `Noise` of torch's generator for n examples.

    On a CPU, uniform numbers are those of NumPy's generator, seeded by torch's, which needs a third less time for them.
    If several processes share the batch, they are this process's of the whole batch.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.n, self.device = n, device
        self.generator = None if device.type != "cpu" else np.random.default_rng(int(torch.randint(2**62, ())))

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        if self.generator is None:
            return torch.rand(self.n, *shape, device=self.device)
        rank, world = SHARE.get()
        return torch.from_numpy(self.generator.random((self.n * world, *shape), np.float32)[rank::world])

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(self.n, *shape, device=self.device)


def bernoulli(logits: Tensor, noise: Noise) -> Tensor:
    """Zeros and ones (n, units), in the dtype of the logits, which are (n, units) or (1, units)."""
    return noise.uniform(logits.shape[1:]).to(logits).lt_(logits.sigmoid())


class Units(nn.Module, ABC):
    space: Space

    @abstractmethod
    def encode(self, x: Batch) -> Tensor:
        """v (B, D) of a batch."""

    @abstractmethod
    def decode(self, v: Tensor) -> Batch:
        """The batch of v, in the dtype of the data."""

    @property
    @abstractmethod
    def ladj(self) -> Tensor:
        """log |det dv/dx| of one example, a scalar."""

    @abstractmethod
    def log_measure(self, v: Tensor) -> Tensor:
        """log m(v), (...,)."""

    @abstractmethod
    def statistic(self, v: Tensor) -> Tensor:
        """t(v)."""

    @abstractmethod
    def log_partition(self, eta: Tensor) -> Tensor:
        """A(eta), (...,)."""

    @abstractmethod
    def draw(self, eta: Tensor, noise: Noise) -> Tensor:
        """v ~ p(v | eta)."""

    @abstractmethod
    def fit(self, v: Tensor) -> Tensor:
        """The natural parameters (D,) of independent units with the moments of v (B, D); sets the scales."""


class BinaryUnits(Units):
    """Zeros and ones: p(v = 1) = sigmoid(eta), with respect to counting measure.

    Args:
        space: Binary.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def encode(self, x: Batch) -> Tensor:
        return x.flatten(1).to(torch.get_default_dtype())

    def decode(self, v: Tensor) -> Batch:
        return v.unflatten(1, self.space.shape).to(self.space.dtype)

    @property
    def ladj(self) -> Tensor:
        return torch.zeros(())

    def log_measure(self, v: Tensor) -> Tensor:
        return v.new_zeros(v.shape[:-1])

    def statistic(self, v: Tensor) -> Tensor:
        return v

    def log_partition(self, eta: Tensor) -> Tensor:
        return softplus(eta).sum(-1)

    def draw(self, eta: Tensor, noise: Noise) -> Tensor:
        return bernoulli(eta, noise)

    def fit(self, v: Tensor) -> Tensor:
        return v.mean(0).clamp(RAREST, 1 - RAREST).logit()


class GaussianUnits(Units):
    """Real numbers: N(v; eta, sigma²) with a learnt sigma for each unit, with respect to Lebesgue measure.

    t(v) = v / sigma² and log m(v) = -v² / (2 sigma²). Sigma is at least 0.05 of scaled data.

    Source: Improved learning of Gaussian-Bernoulli restricted Boltzmann machines (Cho, Ilin & Raiko, 2011), equation 1.

    Args:
        space: Continuous.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space, self.scaling = space, Scaling(space)
        self.log_sigma = nn.Parameter(torch.zeros(space.dim))

    @property
    def sigma(self) -> Tensor:
        return NARROWEST + self.log_sigma.exp()

    def encode(self, x: Batch) -> Tensor:
        return self.scaling(x).flatten(1)

    def decode(self, v: Tensor) -> Batch:
        return self.scaling.inverse(v.unflatten(1, self.space.shape)).to(self.space.dtype)

    @property
    def ladj(self) -> Tensor:
        return self.scaling.ladj

    def log_measure(self, v: Tensor) -> Tensor:
        return -0.5 * (v / self.sigma).square().sum(-1)

    def statistic(self, v: Tensor) -> Tensor:
        return v / self.sigma.square()

    def log_partition(self, eta: Tensor) -> Tensor:
        return (0.5 * (eta / self.sigma).square() + self.sigma.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def draw(self, eta: Tensor, noise: Noise) -> Tensor:
        return eta + self.sigma * noise.normal(eta.shape[1:]).to(eta)

    @torch.no_grad()
    def fit(self, v: Tensor) -> Tensor:
        deviation = v.std(0, correction=min(1, len(v) - 1))  # 0 of a single example
        self.log_sigma.copy_(deviation.clamp_min(NARROWEST).log())
        return v.mean(0)


def visible_units(space: Space) -> Units:
    return BinaryUnits(space) if space.kind == "binary" else GaussianUnits(space)
