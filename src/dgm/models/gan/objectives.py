r"""The objectives of generator and discriminator, as one table; any goes with any regulariser and any network.

With V(x) the discriminator's output without an activation, each entry is a pair of losses to minimise. The f-GANs are
a second table, of f, its conjugate f* and the output activation g, which maps V into the domain of f*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

ObjectiveName: TypeAlias = Literal[
    "non_saturating",
    "minimax",
    "least_squares",
    "wasserstein",
    "hinge",
    "relativistic",
    "kl",
    "reverse_kl",
    "pearson",
    "squared_hellinger",
    "jensen_shannon",
]


class Objective(NamedTuple):
    """The losses of a pair of examples, as functions of V at the real and at the generated one.

    Attributes:
        discriminator: (B,) each and of the same shape.
        generator: The same; ``paired`` says whether it depends on V at the real example.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


class Divergence(NamedTuple):
    r"""An f-divergence, D_f(p || q) = E_q[f(p / q)], and its variational bound E_p[T] - E_q[f*(T)], T = g(V).

    The bound is tight at T = f'(p / q). The generator maximises E_q[T] in place of E_q[f*(T)], which has the same fixed
    point and a larger gradient where q is small beside p.

    Source: f-GAN (Nowozin et al., 2016), arXiv:1606.00709, equation 4, tables 2 and 6, and section 3.2.
    """

    f: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    conjugate_of_activation: Callable[[Tensor], Tensor]  # f*(g(V)), without the rounding of g near the end of its range

    @property
    def objective(self) -> Objective:
        return Objective(
            lambda real, fake: self.conjugate_of_activation(fake) - self.activation(real),
            lambda real, fake: -self.activation(fake),
        )


DIVERGENCES: Mapping[str, Divergence] = {
    "kl": Divergence(lambda u: u * u.log(), lambda t: (t - 1).exp(), lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": Divergence(lambda u: -u.log(), lambda t: -1 - (-t).log(), lambda v: -(-v).exp(), lambda v: v - 1),
    "pearson": Divergence(
        lambda u: (u - 1).square(), lambda t: t.square() / 4 + t, lambda v: v, lambda v: v.square() / 4 + v
    ),
    "squared_hellinger": Divergence(
        lambda u: (u.sqrt() - 1).square(), lambda t: t / (1 - t), lambda v: 1 - (-v).exp(), torch.expm1
    ),
    "jensen_shannon": Divergence(
        lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
        lambda t: -(2 - t.exp()).log(),
        lambda v: math.log(2) + logsigmoid(v),
        lambda v: softplus(v) - math.log(2),
    ),
}


def logistic(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) of D = sigmoid(V)."""
    return softplus(-real) + softplus(fake)


OBJECTIVES: Mapping[str, Objective] = {
    "non_saturating": Objective(logistic, lambda real, fake: softplus(-fake)),
    "minimax": Objective(logistic, lambda real, fake: -softplus(fake)),
    "least_squares": Objective(
        lambda real, fake: 0.5 * (real - 1).square() + 0.5 * fake.square(),
        lambda real, fake: 0.5 * (fake - 1).square(),
    ),
    "wasserstein": Objective(lambda real, fake: fake - real, lambda real, fake: -fake),
    "hinge": Objective(lambda real, fake: relu(1 - real) + relu(1 + fake), lambda real, fake: -fake),
    "relativistic": Objective(
        lambda real, fake: softplus(fake - real), lambda real, fake: softplus(real - fake), paired=True
    ),
    **{name: divergence.objective for name, divergence in DIVERGENCES.items()},
}
