r"""Compositions of scores: products of densities, their quotients, and alternatives, of denoising models.

.. math:: s(x, t) = s_1 + \sum_{i \in and} (s_i - s_i^0) - w \sum_{j \in not} (s_j - s_j^0)

s_i is the score of a model under its condition, and s_i^0 its unconditional score, or 0 for a model without one. Then
the density at t = 0 is p_1 prod_i p_i prod_j p_j^-w, each divided by its unconditional density where there is one: of
conditions that are independent given x, it is the density given all of them.

The score of a product is the sum of scores at t = 0 alone: at other times the diffused product is another density.
Samples are therefore drawn by Langevin steps at each time, whose last density is the right one, and by no solver of the
reverse process.

Source: Compositional Visual Generation with Composable Diffusion Models (Liu et al., 2022), arXiv:2206.01714, equations
11 and 12; Reduce, Reuse, Recycle (Du et al., 2023), arXiv:2302.11552, section 3. Differs from them: Langevin steps
alone, without steps of the reverse process in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise, Prediction
from dgm.protocols import Conditions, Model
from dgm.samplers.diffusion import denoiser


class Factor(NamedTuple):
    """One factor of a product.

    Attributes:
        eps: The predicted noise of a state at a time.
        weight: The exponent of its density.
    """

    eps: Callable[[Tensor, Tensor], Tensor]
    weight: float


def whole_density(model: Model, y: Conditions | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The predicted noise of p(x|y), or of p(x) for None."""
    denoise = denoiser(model, y)
    return lambda x, t: denoise(x, t).eps


def evidence(model: Model, y: Conditions | None) -> Callable[[Tensor, Tensor], Tensor]:
    """That of p(x|y) / p(x) for a model that has both, else that of its density."""
    conditional = whole_density(model, y)
    if y is None or not getattr(model.config, "condition_dropout", 0):
        return conditional
    unconditional = whole_density(model, None)
    return lambda x, t: conditional(x, t) - unconditional(x, t)


def product(factors: Sequence[Factor], path: GaussianPath) -> Denoise:
    """The prediction of the composed score, with the x_0 that is consistent with it."""

    def composed(x: Tensor, t: Tensor) -> Prediction:
        eps = torch.stack([factor.weight * factor.eps(x, t) for factor in factors]).sum(0)
        return Prediction((x - path.sigma(t) * eps) / path.alpha(t), eps)

    return composed


def one_of(alternatives: Sequence[Callable[[Tensor, Tensor], Tensor]], chosen: Tensor) -> Callable[..., Tensor]:
    """The predicted noise of the alternative that each row has chosen, (n,) numbers: a mixture with equal weights."""

    def eps(x: Tensor, t: Tensor) -> Tensor:
        found = torch.stack([alternative(x, t) for alternative in alternatives])
        return found[chosen, torch.arange(len(x), device=x.device)]

    return eps
