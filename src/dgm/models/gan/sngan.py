r"""GAN with spectral normalisation and the hinge loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dgm.models.gan.base import GAME, AdversarialModel, Options, preset
from dgm.models.gan.objectives import ObjectiveName


class SNGAN(AdversarialModel):
    r"""Spectrally normalised GAN with the hinge loss; no likelihood.

    .. math::
        L_D = \max(0, 1 - V(x)) + \max(0, 1 + V(G(z))), \qquad L_G = -V(G(z)), \qquad \bar W = W / \sigma(W)

    sigma(W) is the largest singular value, estimated by one power iteration in each forward pass in training, so that
    each layer, and V with activations of slope at most 1, is about 1-Lipschitz in the norm of its matrix. A condition
    is read by projection.

    Source: Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), arXiv:1802.05957,
    equations 8, 16 and 17 and algorithm 1; cGANs with Projection Discriminator (Miyato & Koyama, 2018),
    arXiv:1802.05637. Differs from them: the networks for images are those of `GAN`; the discriminator's steps between
    two of the generator share the real examples; EMA of the weights.

    Args:
        space: Any space but tokens.

    Example:
        >>> import torch
        >>> from dgm.space import Space
        >>> sngan = SNGAN(Space.levels((1, 8, 8), 17), SNGAN.Config(width=8), Space.categories(10))
        >>> sngan.sample(2, torch.tensor([3, 4]), seed=0).shape
        torch.Size([2, 1, 8, 8])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Options):
        objective: ObjectiveName = preset("objective", "hinge")
        critic_steps: int = preset("critic_steps", 5)
        spectral_norm: bool = preset("spectral_norm", True)
        conditioning: Literal["concatenation", "projection"] = preset("conditioning", "projection")

    defaults: ClassVar[dict[str, Any]] = GAME | {"betas": (0.0, 0.9)}
