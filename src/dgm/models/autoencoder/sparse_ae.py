r"""Sparse autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from dgm.models.autoencoder.base import CodeAndReconstruction
from dgm.protocols import PerExample
from dgm.settings import setting
from dgm.space import Space

LEAST = 1e-6  # of a mean activation, whose logarithm is taken


class SparseAE(CodeAndReconstruction):
    r"""Sparse autoencoder: a code with many units, few of them active; no likelihood.

    .. math:: L(x) = -\log p(x | g(z)) + \beta \Omega(z), \qquad
        \Omega_{KL} = \sum_j \rho \log \frac{\rho}{\hat\rho_j} + (1 - \rho) \log \frac{1 - \rho}{1 - \hat\rho_j}, \qquad
        \Omega_{L1} = \sum_j |z_j|

    With KL the units are logistic, and rho_j is the mean activation of unit j over the batch. With L1 they are
    rectified, and the columns of the decoder have unit length, since otherwise shorter codes and longer columns would
    lower the penalty alone. Encoder and decoder have one layer.

    Source: Sparse Autoencoder, CS294A lecture notes (Ng, 2011), section 3; the penalty of absolute values and columns
    of unit length: Emergence of simple-cell receptive field properties by learning a sparse code (Olshausen & Field,
    1996). Differs from the former: mean activations of a batch, not of all data.

    Example:
        >>> import torch
        >>> model = SparseAE(Space.binary((1, 4, 4)), SparseAE.Config(latent=8))
        >>> model.encode(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3, 8])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(128, "units of the code", low=1, high=100_000)
        penalty: Literal["kl", "l1"] = setting("kl", "penalty of active units")
        weight: float = setting(0.1, "weight of the penalty, beta", low=0.0)
        sparsity: float = setting(0.05, "target of the mean activations, rho, with kl", low=1e-4, high=0.9999)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config, config.latent)
        unit: nn.Module = nn.Sigmoid() if config.penalty == "kl" else nn.ReLU()
        self.encoder = nn.Sequential(nn.Linear(space.dim, config.latent), unit)
        last = nn.Linear(config.latent, space.dim)
        # a code of another model may be below 0: its nearest code is decoded
        self.decoder = last if config.penalty == "kl" else nn.Sequential(nn.ReLU(), UnitColumns(last))

    @property
    def latent_space(self) -> Space:
        if self.config.penalty == "kl":
            return Space.continuous((self.latent,), low=0.0, high=1.0)
        return super().latent_space

    def loss_and_codes(self, x: Tensor) -> tuple[PerExample, Tensor]:
        z = self.encode(x)
        return self.reconstruction_loss(self.decoder(z), x) + self.config.weight * self.penalty(z), z

    def penalty(self, z: Tensor) -> Tensor:
        """One value for each code, or with KL one for all."""
        if self.config.penalty == "l1":
            return z.abs().sum(1)
        rho, mean = self.config.sparsity, z.mean(0).clamp(LEAST, 1 - LEAST)
        return (rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()).sum()


class UnitColumns(nn.Module):
    """A linear layer whose columns are scaled to unit length."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor) -> Tensor:
        return linear(z, normalize(self.layer.weight, dim=0), self.layer.bias)
