r"""Parameterisations of a denoising network: the quantities it may predict from x_t, and conversions between them.

Every quantity in use is linear in data and noise, :math:`p = a_t x_0 + b_t \epsilon`:

================  =================  ================
parameterisation  a_t                b_t
================  =================  ================
``x_0``           1                  0
``eps``           0                  1
``v``             -sigma_t           alpha_t
``score``         0                  -1 / sigma_t
``velocity``      alpha_t'           sigma_t'
================  =================  ================

Together with :math:`x_t = \alpha_t x_0 + \sigma_t \epsilon` these are two linear equations for x_0 and eps. They
also hold for conditional means, so a network that predicts one quantity by least squares predicts all of them.

Source: eps arXiv:2006.11239, equation 9; v arXiv:2202.00512, section 4 and appendix D; score arXiv:2011.13456,
equation 29; velocity arXiv:2210.02747, equation 15, with time reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath, over

Parameterisation: TypeAlias = Literal["x_0", "eps", "v", "score", "velocity"]


class Prediction(NamedTuple):
    """The predicted data and noise, E[x_0 | x_t] and E[eps | x_t].

    Attributes:
        variance: The learnt variance of a reverse step, where the model has one: 0 is the posterior's variance, 1 that
            of the forward transition, interpolated on a log scale.
    """

    x_0: Tensor
    eps: Tensor
    variance: Tensor | None = None


# the prediction of a state (n, ...) at a time, a scalar: the interface of solvers and guidance
Denoise: TypeAlias = Callable[[Tensor, Tensor], Prediction]

COEFFICIENTS: Mapping[str, Callable[[GaussianPath, Tensor], tuple[Tensor, Tensor]]] = {
    "x_0": lambda path, t: (torch.ones_like(t), torch.zeros_like(t)),
    "eps": lambda path, t: (torch.zeros_like(t), torch.ones_like(t)),
    "v": lambda path, t: (-path.sigma(t), path.alpha(t)),
    "score": lambda path, t: (torch.zeros_like(t), -1 / path.sigma(t)),
    "velocity": lambda path, t: (path.alpha_dot(t), path.sigma_dot(t)),
}


def quantity(parameterisation: Parameterisation, path: GaussianPath, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The quantity a_t x_0 + b_t eps of a parameterisation; ``t`` is (B,) or a scalar."""
    a, b = COEFFICIENTS[parameterisation](path, over(t, x_0))
    return a * x_0 + b * eps


def prediction(
    parameterisation: Parameterisation, path: GaussianPath, output: Tensor, x_t: Tensor, t: Tensor
) -> Prediction:
    """The predicted x_0 and eps, by Cramer's rule from x_t and the network's output; ``t`` is (B,) or a scalar."""
    t = over(t, x_t)
    alpha, sigma, (a, b) = path.alpha(t), path.sigma(t), COEFFICIENTS[parameterisation](path, t)
    determinant = alpha * b - sigma * a
    x_0 = torch.addcmul(b / determinant * x_t, -sigma / determinant, output)
    return Prediction(x_0, torch.addcmul(-a / determinant * x_t, alpha / determinant, output))


def convert(
    source: Parameterisation, to: Parameterisation, path: GaussianPath, output: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """Converts a network's output from one parameterisation to another.

    Example:
        >>> from dgm.processes.gaussian import Straight
        >>> eps, x_t, t = torch.tensor([2.0]), torch.tensor([1.5]), torch.tensor(0.5)
        >>> convert("eps", "velocity", Straight(), eps, x_t, t)  # x_0 = 1, so eps - x_0 = 1
        tensor([1.])
    """
    predicted = prediction(source, path, output, x_t, t)
    return quantity(to, path, predicted.x_0, predicted.eps, t)
