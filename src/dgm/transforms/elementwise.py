r"""Elementwise transforms, with a diagonal Jacobian."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from dgm.distributions.scaling import Scaling
from dgm.space import Space
from dgm.transforms.transform import Mapped, Transform


class Elementwise(Transform):
    """z_i = f(x_i): the log-determinant is the sum of log |f'(x_i)|."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """f(x)."""

    @abstractmethod
    def inverse_value(self, z: Tensor) -> Tensor:
        """f^-1(z)."""

    @abstractmethod
    def log_slope(self, z: Tensor) -> Tensor:
        """log |f'(x)| at the x whose f(x) is ``z``."""

    def forward(self, x: Tensor, c: Any = None) -> Mapped:
        z = self.value(x)
        return z, self.log_slope(z).flatten(1).sum(1)

    def inverse(self, z: Tensor, c: Any = None) -> Mapped:
        return self.inverse_value(z), -self.log_slope(z).flatten(1).sum(1)


class Scaled(Elementwise):
    """The affine map of `dgm.distributions.scaling.Scaling`; its inverse clamps to the bounds."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.scaling = Scaling(space)

    def value(self, x: Tensor) -> Tensor:
        return self.scaling(x)

    def inverse_value(self, z: Tensor) -> Tensor:
        return self.scaling.inverse(z)

    def log_slope(self, z: Tensor) -> Tensor:
        return -self.scaling.scale.log().expand_as(z)


class Logit(Elementwise):
    r"""logit((1 + (1 - 2 alpha) x) / 2), from [-1, 1] to the real numbers.

    Source: arXiv:1605.08803, section 4.1, whose x is in [0, 1].

    Args:
        alpha: The distance of the probabilities at x = -1 and x = 1 from 0 and 1, so that z is finite.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha, self.reach = alpha, 0.5 - alpha

    def __repr__(self) -> str:
        return f"logit with alpha = {self.alpha:g}"

    def value(self, x: Tensor) -> Tensor:
        return (0.5 + self.reach * x).logit()

    def inverse_value(self, z: Tensor) -> Tensor:
        return (z.sigmoid() - 0.5) / self.reach

    def log_slope(self, z: Tensor) -> Tensor:
        # dz/dp = 1 / (p (1 - p)), and log p(1 - p) = -softplus(z) - softplus(-z)
        return softplus(z) + softplus(-z) + math.log(self.reach)


ALPHA = 0.05  # of the logit of bounded data, arXiv:1605.08803, section 4.1


def to_real_numbers(space: Space) -> list[Transform]:
    """The scaling of a space and, if it is bounded, the logit of `ALPHA`."""
    return [Scaled(space)] if space.bounds is None else [Scaled(space), Logit(ALPHA)]


class Exp(Elementwise):
    """e^x, whose inverse maps positive data to the real numbers."""

    def value(self, x: Tensor) -> Tensor:
        return x.exp()

    def inverse_value(self, z: Tensor) -> Tensor:
        return z.log()

    def log_slope(self, z: Tensor) -> Tensor:
        return z.log()
