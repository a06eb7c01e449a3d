r"""Wasserstein GAN with weight clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset
from dgm.models.gan.networks import NetworkName
from dgm.models.gan.objectives import ObjectiveName


class WGAN(AdversarialModel):
    r"""Wasserstein GAN with weight clipping; no likelihood.

    .. math::
        L_D = V(G(z)) - V(x), \qquad L_G = -V(G(z)), \qquad |w| \le c

    With V over all 1-Lipschitz functions -L_D is the Wasserstein distance W(p, q), by Kantorovich and Rubinstein. The
    critic's weights are clipped after each of its steps, which makes it K-Lipschitz for some unknown K: -L_D is a
    lower bound of K W(p, q).

    Source: Wasserstein GAN (Arjovsky et al., 2017), arXiv:1701.07875, equation 2 and algorithm 1. Differs from it: the
    critic's steps between two of the generator share the real examples; EMA of the weights.

    Args:
        space: Any space but tokens.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> wgan = WGAN(Space.continuous((2,)), WGAN.Config(width=8))
        >>> [player for player, _ in wgan.losses(torch.zeros(4, 2))].count("discriminator")
        5
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        network: NetworkName = preset("network", "dcgan")
        objective: ObjectiveName = preset("objective", "wasserstein")
        critic_steps: int = preset("critic_steps", 5)
        weight_clip: float = preset("weight_clip", 0.01)

    defaults: ClassVar[dict[str, Any]] = GAME | {"lr": 5e-05, "betas": (0.0, 0.99), "optimiser": "rmsprop"}
