r"""Autoencoder with a Gaussian fitted to its codes, for samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

MOMENTUM = 0.02  # of the running moments of the codes


class Autoencoder(nn.Module):
    r"""Autoencoder; no likelihood.

    .. math:: L(x) = -\log p(x | g(f(x)))

    The reconstruction loss is in nats: a cross-entropy for binary data, a squared error with unit variance otherwise.
    An autoencoder does not define p(x). Samples are decoded from a normal distribution with the running mean and
    covariance of the training codes.

    Source: Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006); the density fitted
    afterwards is that of From Variational to Deterministic Autoencoders (Ghosh et al., 2019), arXiv:1903.12436,
    section 4. Differs from them: trained end to end without pre-training; one Gaussian where Ghosh et al. have ten.

    Args:
        space: Any space but tokens.

    Example:
        >>> model = Autoencoder(Space.binary((1, 4, 4)), Autoencoder.Config(latent=2))
        >>> model.encode(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(12, "dimensions of the code", low=1)
        hidden: int = setting(256, "width of the hidden layers", low=1)
        layers: int = setting(2, "hidden layers of the encoder and of the decoder", low=1, high=1000)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "weight_decay": 0.01}

    mean: Tensor
    covariance: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        widths = [config.hidden] * config.layers
        self.scaling = Scaling(space)
        self.encoder = mlp([space.dim, *widths, config.latent])
        self.decoder = mlp([config.latent, *reversed(widths), space.dim])
        self.observed = output_distribution(space)
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("covariance", torch.eye(config.latent))

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, and the codes."""
        z = self.encode(x)
        outputs = self.decoder(z).unflatten(1, self.space.shape)
        if self.space.kind == "binary":
            loss = -self.observed.log_prob(outputs[..., None], x).flatten(1).sum(1)
        else:
            loss = 0.5 * (outputs - self.scaling(x)).square().flatten(1).sum(1)
        return loss, (z.detach(),)

    @torch.no_grad()
    def after_step(self, *outputs: Tensor) -> None:
        """Updates the running mean and covariance of the codes."""
        (z,) = outputs
        centred = z - self.mean
        self.covariance.lerp_(centred.mT @ centred / len(z), MOMENTUM)
        self.mean.lerp_(z.mean(0), MOMENTUM)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, self.mean.device)
        ridge = 1e-6 * torch.eye(self.config.latent, device=self.mean.device)
        factor = torch.linalg.cholesky(self.covariance + ridge)
        return self.decode(self.mean + noise.normal((self.config.latent,)) @ factor.mT)

    @property
    def latent_space(self) -> Space:
        return Space.continuous((self.config.latent,))

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.encoder(self.scaling(x).flatten(1))

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """The reconstruction: the most likely value for binary data, otherwise the nearest value of the space."""
        outputs = self.decoder(z).unflatten(1, self.space.shape)
        return self.observed(outputs[..., None]) if self.space.kind == "binary" else self.scaling.inverse(outputs)
