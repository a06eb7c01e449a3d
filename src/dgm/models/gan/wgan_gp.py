r"""Wasserstein GAN with gradient penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset
from dgm.models.gan.objectives import ObjectiveName


class WGANGP(AdversarialModel):
    r"""Wasserstein GAN with gradient penalty; no likelihood.

    .. math::
        L_D = V(G(z)) - V(x) + \lambda (|\nabla V(\hat x)| - 1)^2, \qquad L_G = -V(G(z)), \qquad
        \hat x = (1 - \epsilon) x + \epsilon G(z), \quad \epsilon \sim U[0, 1]

    The best critic has a gradient of norm 1 on the segments that the optimal coupling connects (proposition 1).
    ``one_sided_penalty`` is the penalty of slopes above 1 alone.

    Source: Improved Training of Wasserstein GANs (Gulrajani et al., 2017), arXiv:1704.00028, equation 3, section 4 and
    algorithm 1. Differs from it: the networks for images are those of `GAN` without spectral normalisation, which have
    no batch normalisation in the critic; the critic's steps between two of the generator share the real examples; EMA
    of the weights.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> wgan = WGANGP(Space.continuous((2,)), WGANGP.Config(width=8))
        >>> [(penalty.player, penalty.interval) for penalty in wgan.regularisers()]
        [('discriminator', 1)]
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        objective: ObjectiveName = preset("objective", "wasserstein")
        critic_steps: int = preset("critic_steps", 5)
        gradient_penalty: float = preset("gradient_penalty", 10.0)

    defaults: ClassVar[dict[str, Any]] = GAME | {"lr": 0.0001, "betas": (0.0, 0.9)}
