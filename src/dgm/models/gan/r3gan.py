r"""R3GAN: relativistic pairing with penalties at real and at generated examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset
from dgm.models.gan.networks import NetworkName
from dgm.models.gan.objectives import ObjectiveName


class R3GAN(AdversarialModel):
    r"""Regularised relativistic GAN; no likelihood.

    .. math::
        L_D = \log(1 + e^{V(G(z)) - V(x)}) + \frac\gamma2 |\nabla V(x)|^2 + \frac\gamma2 |\nabla V(G(z))|^2, \qquad
        L_G = \log(1 + e^{V(x) - V(G(z))})

    Each real example is paired with a generated one, so that the discriminator's decision lies near every real example
    and no mode is left out; R1 and R2 together make the game converge locally. Both penalties are due at every step:
    with an interval the paper loses modes of stacked MNIST and of the plane; with one of 16 steps our ring and grid
    keep all of theirs. gamma depends on the data: 0.1 in the plane and on digits
    and 0.02 on stacked digits are ours, and the default of 1, for MNIST, is not tuned. Use bf16-mixed and never fp16,
    whose range the penalties' gradients leave.

    Source: The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), arXiv:2501.05441, equations
    2 and 4 and section 4. Differs from it: no schedule of the learning rate, gamma or beta_2; see
    `dgm.networks.r3gan` for the networks. The eigenvalues of equation 12 lack a square in print: they have
    sqrt(gamma² / 4 - f'(0)²).

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> [penalty.interval for penalty in R3GAN(Space.continuous((2,)), R3GAN.Config()).regularisers()]
        [1, 1]
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        latent: int = preset("latent", 64)
        width: int = preset("width", 16)
        network: NetworkName = preset("network", "residual")
        objective: ObjectiveName = preset("objective", "relativistic")
        r1: float = preset("r1", 1.0)
        r2: float = preset("r2", 1.0)
        conditioning: Literal["concatenation", "projection"] = preset("conditioning", "projection")

    defaults: ClassVar[dict[str, Any]] = GAME | {"betas": (0.0, 0.99), "ema": 0.999}
