r"""What a network may predict of x_t, and how each is turned into each.

Every quantity in use is linear in data and noise, :math:`p = a_t x_0 + b_t \epsilon`:

================  =================  ================
prediction        a_t                b_t
================  =================  ================
``x_0``           1                  0
``eps``           0                  1
``v``             -sigma_t           alpha_t
``score``         0                  -1 / sigma_t
``velocity``      alpha_t'           sigma_t'
================  =================  ================

With :math:`x_t = \alpha_t x_0 + \sigma_t \epsilon` that makes two equations for x_0 and eps, which holds of conditional
means as well: a network that predicts one quantity by least squares predicts them all.

Source: eps arXiv:2006.11239, equation 9; v arXiv:2202.00512, section 4 and appendix D; score arXiv:2011.13456,
equation 29; velocity arXiv:2210.02747, equation 15, with time reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath, over

Prediction: TypeAlias = Literal["x_0", "eps", "v", "score", "velocity"]


class Endpoints(NamedTuple):
    """Both ends of the path that leads to an x_t.

    ``variance`` is there where a model has learnt that of its steps: from 0, the posterior's, to 1, the forward
    transition's, on a log scale.
    """

    x_0: Tensor
    eps: Tensor
    variance: Tensor | None = None


# what solvers and guidance ask: both ends, as expected, of a state (n, ...) at a time, a scalar
Denoise: TypeAlias = Callable[[Tensor, Tensor], Endpoints]

COEFFICIENTS: Mapping[str, Callable[[GaussianPath, Tensor], tuple[Tensor, Tensor]]] = {
    "x_0": lambda path, t: (torch.ones_like(t), torch.zeros_like(t)),
    "eps": lambda path, t: (torch.zeros_like(t), torch.ones_like(t)),
    "v": lambda path, t: (-path.sigma(t), path.alpha(t)),
    "score": lambda path, t: (torch.zeros_like(t), -1 / path.sigma(t)),
    "velocity": lambda path, t: (path.alpha_dot(t), path.sigma_dot(t)),
}


def predict(prediction: Prediction, path: GaussianPath, ends: Endpoints, t: Tensor) -> Tensor:
    """The quantity that belongs to these ends of the path; ``t`` is (B,) or a scalar."""
    a, b = COEFFICIENTS[prediction](path, over(t, ends.x_0))
    return a * ends.x_0 + b * ends.eps


def endpoints(prediction: Prediction, path: GaussianPath, predicted: Tensor, x_t: Tensor, t: Tensor) -> Endpoints:
    """x_0 and eps by Cramer's rule from x_t and one predicted quantity; ``t`` is (B,) or a scalar."""
    t = over(t, x_t)
    alpha, sigma, (a, b) = path.alpha(t), path.sigma(t), COEFFICIENTS[prediction](path, t)
    determinant = alpha * b - sigma * a
    x_0 = torch.addcmul(b / determinant * x_t, -sigma / determinant, predicted)
    return Endpoints(x_0, torch.addcmul(-a / determinant * x_t, alpha / determinant, predicted))


def convert(
    source: Prediction, to: Prediction, path: GaussianPath, predicted: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """One predicted quantity as another.

    Example:
        >>> from dgm.processes.gaussian import Straight
        >>> eps, x_t, t = torch.tensor([2.0]), torch.tensor([1.5]), torch.tensor(0.5)
        >>> convert("eps", "velocity", Straight(), eps, x_t, t)  # x_0 = 1, so eps - x_0 = 1
        tensor([1.])
    """
    return predict(to, path, endpoints(source, path, predicted, x_t, t), t)
