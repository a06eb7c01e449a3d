r"""Variational autoencoder with a Gaussian posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.features import features
from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import refuse_discrete
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, Streams, streams
from dgm.settings import setting
from dgm.space import Space

QUICK = 10.0  # learning rate of the observation noise relative to all others


class VAE(nn.Module):
    r"""Variational autoencoder; its likelihood is a lower bound.

    .. math::
        \log p(x) \ge E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| N(0, I)), \quad q(z|x) = N(\mu(x), \sigma(x)^2)

    The decoder p(x|z) is Bernoulli on binary data, a discretised logistic on levels and a normal on real numbers; of a
    record, each column's own, a softmax on categories, with a probability of being missing, and with scales that depend
    on z.
    Bounds are in nats about x in the data's own numbers. `log_weight` is one term of the importance-weighted bound.

    Source: Auto-Encoding Variational Bayes (Kingma & Welling, 2013), arXiv:1312.6114, equations 7 and 10 and appendix
    B; Importance Weighted Autoencoders (Burda et al., 2015), arXiv:1509.00519, equation 8.
    Differs from them: SiLU in place of tanh; the scale of grey levels and real numbers is one parameter for each
        dimension,
    whose logarithm has ten times the learning rate: its initial value is far above that of a good decoder, and
    an optimiser with steps of constant length would need thousands of steps (Simple and Effective VAE Training
    with Calibrated Decoders, Rybkin et al., 2021, arXiv:2006.13202, section 3, where it is solved for in each batch;
    here it is a number of the model, the same in a bound and in training).

    Args:
        space: Any space but tokens.

    Example:
        >>> vae = VAE(Space.binary((1, 4, 4)), VAE.Config(latent=2))
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(16, "dimensions of z", low=1)
        hidden: int = setting(256, "width of the hidden layers", low=1)
        layers: int = setting(2, "hidden layers of the encoder and of the decoder", low=1, high=1000)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous", "record"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "ema": 0.999, "weight_decay": 0.01}
    likelihood_method = "evidence lower bound"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.features = ConditionFeatures(condition)
        widths = [config.hidden] * config.layers
        self.reader, self.observed = features(space), output_distribution(space)
        self.each = self.observed.outputs if space.kind == "record" else 1  # numbers of the decoder a dimension
        self.encoder = mlp([space.dim * self.reader.width + self.features.width, *widths, 2 * config.latent])
        self.decoder = mlp([config.latent + self.features.width, *widths, space.dim * self.each])
        learns = space.kind not in ("binary", "record")
        self.log_scale = nn.Parameter(torch.full(space.shape, -1.0), requires_grad=learns)
        self.quick = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(space.shape), requires_grad=learns)})
        self.register_load_state_dict_pre_hook(with_shift)

    @property
    def latent_space(self) -> Space:
        return Space.continuous((self.config.latent,))

    def posterior(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """mu and log sigma of q(z|x), each (B, latent)."""
        mu, log_sigma = self.encoder(self.beside(self.reader(x).flatten(1), y)).chunk(2, -1)
        return mu, log_sigma.clamp(-7, 3)

    def likelihood(self, x: Batch, z: Tensor, y: Conditions | None = None) -> PerExample:
        """log p(x|z)."""
        return self.observed.log_prob(self.outputs(z, y), x).flatten(1).sum(1)

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The bound with its Kullback-Leibler term in closed form (appendix B) and one draw of z."""
        mu, log_sigma = self.posterior(x, y)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        kl = 0.5 * (mu.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(-1)
        return self.likelihood(x, z, y) - kl

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(x|z) + log p(z) - log q(z|x) at one draw of z."""
        z, log_ratio = self.code_and_log_ratio(x, y)
        return log_ratio - 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        mu, log_sigma = self.posterior(x, y)
        eps = torch.randn_like(mu)
        z = mu + log_sigma.exp() * eps
        log_q = -(0.5 * (eps.square() + math.log(2 * math.pi)) + log_sigma).sum(-1)
        return z, self.likelihood(x, z, y) - log_q

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        mu, log_sigma = self.posterior(x, y)
        return mu + log_sigma.exp() * torch.randn_like(mu)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.elbo(x, y)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.reparameterised(n, y, seed)

    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        refuse_discrete(self.space)
        return self.reparameterised(n, y, seed)

    def reparameterised(self, n: int, y: Conditions | None, seed: Seed) -> Batch:
        noise = streams(n, seed, self.log_scale.device)
        outputs = self.drawn(noise, y)
        return self.observed.sample(outputs, noise.uniform((*self.space.shape, 2)).to(self.log_scale))

    @torch.no_grad()
    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(len(z), seed, self.log_scale.device)
        return self.observed.sample(self.outputs(z, y), noise.uniform((*self.space.shape, 2)))

    @torch.no_grad()
    def sample_mean(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """The decoder's mean, or most likely value, at the z of `sample`: samples without the observation noise."""
        return self.observed(self.drawn(streams(n, seed, self.log_scale.device), y))

    def drawn(self, noise: Streams, y: Conditions | None) -> Tensor:
        """The decoder's outputs for z from the prior."""
        y = sampled_condition(y, self, noise)
        return self.outputs(noise.normal((self.config.latent,)).to(self.log_scale), y)

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The posterior's mean, (B, latent)."""
        return self.posterior(x, y)[0]

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """The decoder's mean, or most likely value."""
        return self.observed(self.outputs(z, y))

    def outputs(self, z: Tensor, y: Conditions | None) -> Tensor:
        read = self.decoder(self.beside(z, y))
        if self.space.kind == "record":
            return read.unflatten(1, (self.space.dim, self.each))
        mean = read.unflatten(1, self.space.shape)
        if self.space.kind == "binary":
            return mean[..., None]
        log_scale = self.log_scale + QUICK * self.quick["shift"]
        return torch.stack([torch.zeros_like(mean), mean, log_scale.expand_as(mean)], -1)

    def beside(self, x: Tensor, y: Conditions | None) -> Tensor:
        y = check_condition(y, self.condition)
        return x if y is None else torch.cat([x, self.features(y, x)], -1)


def with_shift(vae: nn.Module, weights: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Weights of before the scale was learnt quickly hold it whole in ``log_scale``."""
    if f"{prefix}log_scale" in weights:
        weights.setdefault(f"{prefix}quick.shift", torch.zeros_like(weights[f"{prefix}log_scale"]))
