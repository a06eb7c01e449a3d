r"""Penalties of the discriminator, as one table; any goes with any objective and any network.

Each entry is one value for each example, to be multiplied by its weight in the settings. A gradient is that of the
discriminator's output V without activation, with respect to x in [-1, 1], or standardised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import relu

from dgm.protocols import PerExample

Critic: TypeAlias = Callable[[Tensor], PerExample]  # V of a batch


def slope(critic: Critic, x: Tensor) -> PerExample:
    """|dV/dx|, differentiable in the parameters, with a finite gradient where it is 0."""
    return (squared_slope(critic, x) + 1e-12).sqrt()


def squared_slope(critic: Critic, x: Tensor) -> PerExample:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def between(real: Tensor, fake: Tensor) -> Tensor:
    """Points between pairs of real and generated examples, uniform on the segment."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    return real + share * (fake - real)


# name -> penalty of V, real examples and generated ones
PENALTIES: Mapping[str, Callable[[Critic, Tensor, Tensor], PerExample]] = {
    # Mescheder et al. 2018, arXiv:1801.04406, equation 9, and the same at generated examples, which they call R2
    "r1": lambda critic, real, fake: 0.5 * squared_slope(critic, real),
    "r2": lambda critic, real, fake: 0.5 * squared_slope(critic, fake),
    # Gulrajani et al. 2017, arXiv:1704.00028, equation 3, and the one-sided penalty of their section 4
    "gradient_penalty": lambda critic, real, fake: (slope(critic, between(real, fake)) - 1).square(),
    "one_sided_penalty": lambda critic, real, fake: relu(slope(critic, between(real, fake)) - 1).square(),
    # Karras et al. 2018, arXiv:1710.10196, appendix A.1
    "drift": lambda critic, real, fake: critic(real).square(),
}
