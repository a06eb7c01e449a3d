r"""Generative adversarial network with the non-saturating loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset


class GAN(AdversarialModel):
    r"""Generative adversarial network; no likelihood.

    .. math::
        L_D = -\log D(x) - \log(1 - D(G(z))), \qquad L_G = -\log D(G(z)), \qquad z \sim N(0, I)

    D is the sigmoid of the discriminator's output V. With the best D = p / (p + q) the value of the game is
    2 JSD(p, q) - log 4. The ``minimax`` objective has L_G = log(1 - D(G(z))), of the same fixed point, whose gradient
    vanishes where D is sure.

    Source: Generative Adversarial Nets (Goodfellow et al., 2014), arXiv:1406.2661, equation 1, proposition 1,
    theorem 1 and, for L_G, the end of section 3; DCGAN (Radford et al., 2015), arXiv:1511.06434, for the optimiser.
    Differs from them: convolutional networks for images, with spectral normalisation in the discriminator.

    Args:
        space: Any space but tokens.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> gan = GAN(Space.levels((1, 8, 8), 17), GAN.Config(width=8))
        >>> [player for player, _ in gan.losses(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))]
        ['discriminator', 'generator']
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        spectral_norm: bool = preset("spectral_norm", True)

    defaults: ClassVar[dict[str, Any]] = GAME | {"lr": 4e-4}
