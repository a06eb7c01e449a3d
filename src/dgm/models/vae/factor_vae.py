r"""FactorVAE: a variational autoencoder whose total correlation is estimated by a discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.models.vae.base import DecoderConfig, GaussianVAE
from dgm.models.vae.vae import VAE
from dgm.networks.conditions import EVERY_KIND
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, Streams
from dgm.settings import setting
from dgm.space import Space


class FactorVAE(nn.Module):
    r"""FactorVAE, a game of a VAE and a discriminator; its likelihood is a lower bound.

    The discriminator D classifies codes of q(z) and codes of the product of its marginals, whose dimensions are each
    permuted among the examples of a batch. Its logit is then an estimate of log q(z) - sum_j log q(z_j), of which the
    mean is the total correlation:

    .. math::
        L_D = -\log D(z) - \log(1 - D(z_{perm})), \qquad
        L_{VAE} = -ELBO(x) + \gamma \log \frac{D(z)}{1 - D(z)}, \quad z \sim q(z|x)

    `elbo` and `log_weight` are the VAE's, in nats about x in the data's own numbers.

    Source: Disentangling by Factorising (Kim & Mnih, 2018), arXiv:1802.05983, equations 2 and 3 and algorithms 1 and 2.
    Differs from it: the permuted codes are drawn again for the same batch, where the source takes a second batch; one
    logit in place of two; the output distributions and networks of `VAE`.

    Args:
        space: Any space but tokens.

    Example:
        >>> model = FactorVAE(Space.binary((1, 4, 4)), FactorVAE.Config(latent=2))
        >>> [player for player, _ in model.losses(torch.zeros(4, 1, 4, 4, dtype=torch.uint8))]
        ['discriminator', 'vae']
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        gamma: float = setting(10.0, "weight of the total correlation", low=0.0)
        width: int = setting(256, "width of the discriminator's hidden layers", low=1)
        depth: int = setting(4, "hidden layers of the discriminator", low=1, high=1000)

    players: ClassVar[tuple[str, ...]] = ("discriminator", "vae")
    spaces: ClassVar[set[str]] = GaussianVAE.spaces
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 64,
        "lr": 1e-3,
        "ema": 0.999,
        "select": "last",
        "players": {"discriminator": {"lr": 1e-4, "betas": (0.5, 0.9)}},
    }
    likelihood_method = VAE.likelihood_method

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        of_vae = {name: getattr(config, name) for name in DecoderConfig.__dataclass_fields__}
        self.vae = VAE(space, VAE.Config(**of_vae), condition)
        self.discriminator = mlp([config.latent, *[config.width] * config.depth, 1])

    def losses(self, x: Batch, y: Conditions | None = None) -> Iterator[tuple[str, PerExample]]:
        mu, log_sigma = self.vae.posterior(x, y)
        z, other = (mu + log_sigma.exp() * torch.randn_like(mu) for _ in range(2))
        real, permuted = (self.logit(codes.detach()) for codes in (z, permuted_dimensions(other)))
        yield "discriminator", softplus(-real) + softplus(permuted)
        yield "vae", self.config.gamma * self.logit(z) - self.vae.elbo_at(x, z, mu, log_sigma, y)

    def logit(self, z: Tensor) -> PerExample:
        """log D(z) / (1 - D(z)), (B,)."""
        return self.discriminator(z)[:, 0]

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.vae.elbo(x, y)

    def divergence(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.vae.divergence(x, y)

    def posterior(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        return self.vae.posterior(x, y)

    def log_prior(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return self.vae.log_prior(z, y)

    def likelihood(self, x: Batch, z: Tensor, y: Conditions | None = None) -> PerExample:
        return self.vae.likelihood(x, z, y)

    def prior_code(self, noise: Streams, y: Conditions | None) -> Tensor:
        return self.vae.prior_code(noise, y)

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.vae.log_weight(x, y)

    def log_weights(self, x: Batch, y: Conditions | None = None, *, draws: int) -> Tensor:
        return self.vae.log_weights(x, y, draws=draws)

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.vae.sample(n, y, seed=seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.vae.rsample(n, y, seed=seed)

    def sample_mean(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.vae.sample_mean(n, y, seed=seed)

    @property
    def latent_space(self) -> Space:
        return self.vae.latent_space

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.vae.encode(x, y)

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        return self.vae.decode(z, y)

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.vae.sample_code(x, y)

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        return self.vae.code_and_log_ratio(x, y)

    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.vae.sample_given_code(z, y, seed=seed)


def permuted_dimensions(z: Tensor) -> Tensor:
    """Each dimension of the codes (B, latent) permuted among the examples of the batch (algorithm 1)."""
    return z.gather(0, torch.rand_like(z).argsort(0))
