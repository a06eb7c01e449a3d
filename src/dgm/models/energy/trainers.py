r"""How an energy is trained, as one table; all train the same network.

=============  =======================================================================  ========================
trainer        minimises                                                                source
=============  =======================================================================  ========================
``pcd``        f(z+) - f(z-) + alpha (f(z+)² + f(z-)²), z- of chains of a replay buffer  Tieleman; Du & Mordatch
``cd``         the same, z- of chains that start from the data                          Hinton
``nce``        -log h(z+) - log(1 - h(z-)), logit h = -E - log q, z- ~ q                Gutmann & Hyvärinen, 3
``explicit``   squared error of the score -dE/dz to that of a Parzen estimate           Vincent, equation 9
``implicit``   the trace of the score's Jacobian, and half the squared score            Hyvärinen, equation 4
``sliced``     the same, with the trace in one random direction                         Song, equation 8
``denoising``  squared error of the score to the direction back to the noiseless data   Vincent, equation 11
=============  =======================================================================  ========================

z+ is scaled data with noise of a standard deviation sigma, so that all fit the density of data with that noise. The
first two train f = T E, and their loss is T times the contrastive divergence; the others train E at T = 1. The noise q
of ``nce`` is normal with the mean and the variances of the first batch, and its energy is normalised, Z = 1, at the
minimum: the last bias is the logarithm of the normalising constant.

Source: Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002); Training Restricted Boltzmann
Machines using Approximations to the Likelihood Gradient (Tieleman, 2008); Implicit Generation and Modeling with
Energy-Based Models (Du & Mordatch, 2019), arXiv:1903.08689, equation 2 and algorithm 1; Noise-contrastive estimation
(Gutmann & Hyvärinen, 2010), equation 3; of the others see `dgm.models.score.objectives`. Differs from them: the losses
of score matching are multiplied by sigma² / D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dgm.models.score.objectives import OBJECTIVES
from dgm.protocols import Conditions, PerExample

if TYPE_CHECKING:
    from dgm.models.energy.ebm import EBM

TrainerName: TypeAlias = Literal["pcd", "cd", "nce", "explicit", "implicit", "sliced", "denoising"]
Outputs: TypeAlias = tuple[Tensor, ...]


class Trainer(NamedTuple):
    """One line of the table.

    Attributes:
        loss: Maps the model, scaled examples and their conditions to the losses, (B,), and the outputs for
            `dgm.protocols.Stateful`.
        step_size, temperature: The default step size of the chains, and T if the noise is not chosen.
        sigma: The default standard deviation of the noise on data.
    """

    loss: Callable[[EBM, Tensor, Conditions | None], tuple[PerExample, Outputs]]
    step_size: float
    temperature: float
    sigma: float


def persistent(ebm: EBM, z: Tensor, y: Conditions | None) -> tuple[PerExample, Outputs]:
    rows, start, of_chains = ebm.continued(z, y)
    ends = ebm.end(start, of_chains)
    outputs = (rows, ends) if of_chains is None else (rows, ends, of_chains)
    return divergence(ebm, noisy(ebm, z), y, ends, of_chains), outputs


def contrastive(ebm: EBM, z: Tensor, y: Conditions | None) -> tuple[PerExample, Outputs]:
    z = noisy(ebm, z)
    return divergence(ebm, z, y, ebm.end(z, y), y), ()


def divergence(ebm: EBM, z: Tensor, y: Conditions | None, chains: Tensor, of_chains: Conditions | None) -> PerExample:
    both = None if y is None or of_chains is None else torch.cat([y, of_chains])
    positive, negative = ebm.potential(torch.cat([z, chains]), both).chunk(2)
    return positive - negative + ebm.config.regularisation * (positive.square() + negative.square())


def noise_contrastive(ebm: EBM, z: Tensor, y: Conditions | None) -> tuple[PerExample, Outputs]:
    z = noisy(ebm, z)
    noise = ebm.noise_distribution.sample((len(z),))

    def log_ratio(at: Tensor) -> Tensor:
        return -ebm.scaled_energy(at, y) - ebm.noise_distribution.log_prob(at).flatten(1).sum(1)

    return softplus(-log_ratio(z)) + softplus(log_ratio(noise)), ()


def score_matching(objective: str, ebm: EBM, z: Tensor, y: Conditions | None) -> tuple[PerExample, Outputs]:
    def score(at: Tensor) -> Tensor:
        at = at if at.requires_grad else at.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(ebm.scaled_energy(at, y).sum(), at, create_graph=True)
        return -gradient

    with torch.enable_grad():
        loss = OBJECTIVES[objective](score, z, noisy(ebm, z), ebm.sigma)
    return loss * (ebm.sigma**2 or 1.0) / ebm.space.dim, ()


def noisy(ebm: EBM, z: Tensor) -> Tensor:
    return z + ebm.sigma * torch.randn_like(z)


COLD = 1.25e-4  # T of the chains in the code of Du & Mordatch, about
NOISELESS = ("explicit", "denoising")  # these have no value without noise on the data
TRAINERS: Mapping[str, Trainer] = {
    "pcd": Trainer(persistent, step_size=0.2, temperature=COLD, sigma=0.03),
    "cd": Trainer(contrastive, step_size=0.2, temperature=COLD, sigma=0.03),
    "nce": Trainer(noise_contrastive, step_size=0.01, temperature=1.0, sigma=0.03),
    **{
        name: Trainer(partial(score_matching, name), step_size=0.01, temperature=1.0, sigma=sigma)
        for name, sigma in {"explicit": 0.3, "implicit": 0.03, "sliced": 0.03, "denoising": 0.3}.items()
    },
}
