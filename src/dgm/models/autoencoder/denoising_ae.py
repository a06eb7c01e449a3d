r"""Denoising autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.models.autoencoder.base import CodeAndReconstruction
from dgm.networks.mlp import mlp
from dgm.protocols import PerExample
from dgm.settings import setting
from dgm.space import Space


class DenoisingAE(CodeAndReconstruction):
    r"""Denoising autoencoder: reconstructs x from a corrupted x; no likelihood.

    .. math:: L(x) = -\log p(x | g(f(\tilde x))), \quad \tilde x \sim q(\tilde x | x)

    Corruption q is of scaled x: masking sets each dimension with probability ``amount`` to the least value, or to 0
    where x has no bounds; salt and pepper to the least or to the largest value; Gaussian noise has the standard
    deviation ``amount``. The code of x is that of x without noise.

    Source: Extracting and Composing Robust Features with Denoising Autoencoders (Vincent et al., 2008); Stacked
    Denoising Autoencoders (Vincent et al., 2010), section 4.1 and, of the three kinds of corruption, 4.4.
    Differs from them: SiLU, layers of code and decoder of any number, without tied weights.

    Example:
        >>> model = DenoisingAE(Space.binary((1, 4, 4)), DenoisingAE.Config(latent=2))
        >>> model.loss(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(32, "dimensions of the code", low=1, high=100_000)
        hidden: int = setting(256, "width of the hidden layers", low=1, high=100_000)
        layers: int = setting(1, "hidden layers of the encoder and of the decoder", low=1, high=1000)
        corruption: Literal["masking", "salt_and_pepper", "gaussian"] = setting("masking", "kind of corruption")
        amount: float = setting(0.25, "share of corrupted dimensions, or the noise's deviation", low=0.0, high=10.0)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config, config.latent)
        self.bounded = space.discrete or space.bounds is not None
        if config.corruption == "salt_and_pepper" and not self.bounded:
            raise BadInput(f"salt and pepper need bounds, got {space}", "choose masking or gaussian noise")
        if config.corruption != "gaussian" and config.amount > 1:
            raise BadInput(f"a share of dimensions is at most 1, got {config.amount}", "give an amount from 0 to 1")
        sizes = [space.dim, *[config.hidden] * config.layers, config.latent]
        self.encoder, self.decoder = mlp(sizes), mlp(sizes[::-1])

    def corrupted(self, x: Tensor) -> Tensor:
        """Scaled x with noise."""
        if self.config.corruption == "gaussian":
            return x + self.config.amount * torch.randn_like(x)
        u, least = torch.rand_like(x), -1.0 if self.bounded else 0.0
        destroyed = torch.full_like(x, least)
        if self.config.corruption == "salt_and_pepper":
            destroyed = torch.where(u < self.config.amount / 2, -least, destroyed)
        return torch.where(u < self.config.amount, destroyed, x)

    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        z = self.encoder(self.corrupted(self.flat(x)))
        return self.reconstruction_loss(self.decoder(z), x), z
