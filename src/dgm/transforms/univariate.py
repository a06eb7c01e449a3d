r"""Monotone functions of a real number, whose parameters are the outputs of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor

Valued: TypeAlias = tuple[Tensor, Tensor]


class Univariate(ABC):
    """An increasing elementwise function z = f(x; parameters).

    Attributes:
        parameters: Number of parameters for each element. With zeros, the function is the identity.
    """

    parameters: int

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> Valued:
        """z = f(x) and log f'(x), both of x's shape.

        Args:
            x: (..., L).
            parameters: (..., parameters, L).
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> Valued:
        """x = f^-1(z), and minus log f'(x)."""


class Affine(Univariate):
    r"""z = x e^s + t, with s bounded smoothly: s = a / (1 + |a| / bound) of the network's a.

    Args:
        bound: Bound of the absolute log-scale.
    """

    parameters = 2

    def __init__(self, bound: float = 3.0) -> None:
        self.bound = bound

    def forward(self, x: Tensor, parameters: Tensor) -> Valued:
        a, t = parameters.unbind(-2)
        s = self.log_scale(a)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, z: Tensor, parameters: Tensor) -> Valued:
        a, t = parameters.unbind(-2)
        s = self.log_scale(a)
        return (z - t) * (-s).exp(), -s

    def log_scale(self, a: Tensor) -> Tensor:
        return a / (1 + a.abs() / self.bound)


class Shift(Univariate):
    """z = x + t, which preserves volume."""

    parameters = 1

    def forward(self, x: Tensor, parameters: Tensor) -> Valued:
        return x + parameters[..., 0, :], x.new_zeros(()).expand_as(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> Valued:
        return z - parameters[..., 0, :], z.new_zeros(()).expand_as(z)
