r"""Contractive autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgm.models.autoencoder.base import CodeAndReconstruction
from dgm.networks.mlp import mlp
from dgm.protocols import PerExample
from dgm.settings import setting
from dgm.space import Space


class ContractiveAE(CodeAndReconstruction):
    r"""Contractive autoencoder: the code changes little with x; no likelihood.

    .. math:: L(x) = -\log p(x | g(f(x))) + \lambda \|J_f(x)\|_F^2

    J_f is the Jacobian of the code with respect to scaled x. The code is logistic. Of an encoder with one layer, z =
    s(W x + b), the norm is exact: the sum over j of (z_j (1 - z_j))^2 sum_i W_ji^2. Of more layers it is estimated
    without bias by the squared norm of v^T J at one v of random signs for each example.

    Source: Contractive Auto-Encoders: Explicit Invariance During Feature Extraction (Rifai et al., 2011), equations 3
    and 5; the estimate: Hutchinson, 1990. Differs from it: without tied weights.

    Example:
        >>> model = ContractiveAE(Space.binary((1, 4, 4)), ContractiveAE.Config(latent=8))
        >>> model.encode(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3, 8])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(64, "dimensions of the code", low=1, high=100_000)
        hidden: int = setting(256, "width of hidden layers", low=1, high=100_000)
        layers: int = setting(0, "hidden layers of the encoder and of the decoder", low=0, high=1000)
        weight: float = setting(0.1, "weight of the Jacobian's squared norm, lambda", low=0.0)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config, config.latent)
        sizes = [space.dim, *[config.hidden] * config.layers, config.latent]
        self.encoder, self.decoder = nn.Sequential(*mlp(sizes), nn.Sigmoid()), mlp(sizes[::-1])

    @property
    def latent_space(self) -> Space:
        return Space.continuous((self.latent,), low=0.0, high=1.0)

    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        z, norm = self.codes_and_norm(self.flat(x))
        return self.reconstruction_loss(self.decoder(z), x) + self.config.weight * norm, z

    def codes_and_norm(self, x: Tensor) -> tuple[Tensor, PerExample]:
        """f(x), and the squared norm of its Jacobian or an estimate of it."""
        if self.config.layers == 0:
            z = self.encoder(x)
            rows = self.encoder[0].weight.square().sum(1)
            return z, (z * (1 - z)).square() @ rows
        z, pull, *_ = torch.func.vjp(self.encoder, x)
        v = torch.randint_like(z, 2) * 2 - 1
        return z, pull(v)[0].square().sum(1)
