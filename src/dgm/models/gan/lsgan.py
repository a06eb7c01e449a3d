r"""Least squares GAN."""

from __future__ import annotations

from dataclasses import dataclass

from dgm.models.gan.base import AdversarialModel, Options, preset
from dgm.models.gan.objectives import ObjectiveName


class LSGAN(AdversarialModel):
    r"""Least squares GAN: the discriminator is a regression onto 1 and 0; no likelihood.

    .. math::
        L_D = \tfrac12 (V(x) - 1)^2 + \tfrac12 V(G(z))^2, \qquad L_G = \tfrac12 (V(G(z)) - 1)^2

    With targets 1 and -1, and 0 for the generator, the game would minimise Pearson's chi² of p + q and 2 q.

    Source: Least Squares Generative Adversarial Networks (Mao et al., 2016), arXiv:1611.04076, equation 9. Differs
    from it: the networks for images are those of `GAN`, without spectral normalisation; EMA of the weights.

    Args:
        space: Any space but tokens.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> LSGAN(Space.continuous((2,)), LSGAN.Config(width=8)).sample(3, seed=0).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        objective: ObjectiveName = preset("objective", "least_squares")
