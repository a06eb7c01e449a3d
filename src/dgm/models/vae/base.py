r"""Models with a decoder p(x|z): their output distributions, likelihoods and samples; and a Gaussian encoder."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dgm.distributions.features import features
from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import refuse_discrete
from dgm.errors import BadInput
from dgm.networks.conditioning import ConditionFeatures, ConditionMaps, has_images
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.conv import ConvDecoder, ConvEncoder, sizes
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, Streams, streams
from dgm.settings import setting
from dgm.space import Space

QUICK = 10.0  # learning rate of the observation noise relative to all others
LOG_SIGMAS = (-7.0, 3.0)  # bounds of the log standard deviations of q(z|x)
# the output distributions of each kind of space, the default first
OUTPUTS = {
    "binary": ("bernoulli",),
    "levels": ("logistics", "categorical"),
    "continuous": ("gaussian",),
    "record": ("columns",),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The networks and the output distribution of a latent-variable model."""

    hidden: int = setting(256, "width of the hidden layers; of convolutions, channels at the lowest resolution", low=1)
    layers: int = setting(2, "hidden layers of the encoder and of the decoder, if dense", low=1, high=1000)
    network: Literal["dense", "conv"] = setting("dense", "perceptrons, or convolutions for images")
    output: Literal["auto", "bernoulli", "gaussian", "categorical", "logistics"] = setting(
        "auto", "output distribution; auto is Bernoulli on binary data, discretised logistics on levels, else Gaussian"
    )
    components: int = setting(1, "components of the mixture of logistics or of Gaussians", low=1, high=1000)
    scale: float = setting(0.0, "fixed scale of the output distribution, for scaled data; 0 to learn it", low=0.0)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(NetworkConfig):
    """The same, of a model with one latent variable."""

    latent: int = setting(16, "dimensions of z", low=1)


class LatentVariableModel(nn.Module, ABC):
    r"""p(x) is the integral of p(x|z) p(z) over z. Abstract: the posterior q(z|x) is a subclass's.

    The decoder p(x|z) has independent dimensions: Bernoulli on binary data; a discretised logistic on levels, a mixture
    of them, or a categorical distribution; a Gaussian on real numbers, or a mixture; of a record, each column's own. A
    single logistic or Gaussian has one scale for each dimension, fixed or a parameter, whose logarithm has ten times
    the learning rate of the rest; mixtures and records have scales that depend on z.

    Args:
        code: Dimensions of z.
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous", "record"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "ema": 0.999, "weight_decay": 0.01}
    likelihood_method = "evidence lower bound"

    decoder: nn.Module

    def __init__(self, space: Space, config: NetworkConfig, condition: Space | None, *, code: int) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.code, convolutional = code, config.network == "conv"
        size = space.shape[1:] if len(space.shape) == 3 else None
        self.features = ConditionFeatures(condition, None if convolutional else size, flat=True)
        self.maps: ConditionMaps | None = None
        if convolutional and has_images(condition):
            self.maps = ConditionMaps(condition, space.shape[1:])
        self.reader, self.observed = features(space), observed(space, config)
        self.one_scale = space.kind in ("levels", "continuous") and self.observed.outputs == 3
        self.each = 1 if self.one_scale else self.observed.outputs  # numbers of the decoder for each dimension
        self.build()
        learns = self.one_scale and not config.scale
        initial = math.log(config.scale) if config.scale else -1.0
        self.log_scale = nn.Parameter(torch.full(space.shape, initial), requires_grad=learns)
        self.quick = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(space.shape), requires_grad=learns)})
        self.register_load_state_dict_pre_hook(with_shift)

    @abstractmethod
    def build(self) -> None:
        """Makes the networks: ``self.decoder``, and those of the posterior."""

    @abstractmethod
    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        """z ~ q(z|x), and log p(x|z) - log q(z|x)."""

    @abstractmethod
    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample: ...

    def encoding(self, outputs: int) -> nn.Module:
        """A network from the features of x and of the condition."""
        inputs, extra = self.space.dim * self.reader.width, self.features.width
        if self.config.network == "conv":
            maps = 0 if self.maps is None else self.maps.width
            return ConvEncoder(self.space.shape, self.channels, outputs, extra, maps)
        return mlp([inputs + extra, *self.widths, outputs])

    def decoding(self, inputs: int) -> nn.Module:
        """A network to the numbers of the output distribution of every dimension."""
        inputs += self.features.width
        if self.config.network == "conv":
            maps = 0 if self.maps is None else self.maps.width
            return ConvDecoder(inputs, self.channels, self.space.shape, self.each, maps)
        return mlp([inputs, *self.widths, self.space.dim * self.each])

    @property
    def widths(self) -> list[int]:
        return [self.config.hidden] * self.config.layers

    @property
    def channels(self) -> int:
        """Channels at full resolution of convolutional networks."""
        return max(1, self.config.hidden // 2 ** (len(sizes(*self.space.shape[1:])) - 1))

    @property
    def latent_space(self) -> Space:
        return Space.continuous((self.code,))

    def log_prior(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        """log p(z), here of N(0, I)."""
        return log_normal(z)

    def prior_code(self, noise: Streams, y: Conditions | None) -> Tensor:
        """z ~ p(z), (B, code)."""
        return noise.normal((self.code,)).to(self.log_scale)

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(x|z) + log p(z) - log q(z|x) at one draw of z."""
        z, log_ratio = self.code_and_log_ratio(x, y)
        return log_ratio + self.log_prior(z, y)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.elbo(x, y)

    def likelihood(self, x: Batch, z: Tensor, y: Conditions | None = None) -> PerExample:
        """log p(x|z)."""
        return self.observed.log_prob(self.outputs(z, y), x).flatten(1).sum(1)

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
        return self.outputs(self.prior_code(noise, y), y)

    def moments_given_code(self, z: Tensor, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        return self.observed.moments(self.outputs(z, y))

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        """The decoder's mean, or most likely value."""
        return self.observed(self.outputs(z, y))

    def decoded(self, z: Tensor, y: Conditions | None) -> Tensor:
        """The input of the decoder, here all of z."""
        return z

    def outputs(self, z: Tensor, y: Conditions | None) -> Tensor:
        """The numbers of the output distribution, (B, *shape, outputs)."""
        return self.outputs_of(self.decoded(z, y), y)

    def outputs_of(self, h: Tensor, y: Conditions | None) -> Tensor:
        shape = (self.space.dim,) if self.space.kind == "record" else self.space.shape
        read = self.conditional(self.decoder, h, y).unflatten(1, (*shape, self.each))
        if not self.one_scale:
            return read
        log_scale = (self.log_scale + QUICK * self.quick["shift"])[..., None]
        return torch.cat([torch.zeros_like(read), read, log_scale.expand_as(read)], -1)

    def conditional(self, network: nn.Module, h: Tensor, y: Conditions | None) -> Tensor:
        """The output of the encoder or of the decoder for h (B, inputs) and the condition."""
        h = self.beside(h, y)
        return network(h) if self.maps is None or y is None else network(h, self.maps(y, len(y)))

    def beside(self, x: Tensor, y: Conditions | None) -> Tensor:
        y = check_condition(y, self.condition)
        return x if y is None else torch.cat([x, self.features(y, x)], -1)


class GaussianVAE(LatentVariableModel):
    """A latent-variable model with q(z|x) = N(mu(x), sigma(x)²) and p(z) = N(0, I). Abstract: the loss is a subclass's.

    `elbo` has its Kullback-Leibler term in closed form.
    """

    encoder: nn.Module

    def __init__(self, space: Space, config: DecoderConfig, condition: Space | None = None) -> None:
        super().__init__(space, config, condition, code=config.latent)

    def build(self) -> None:
        self.encoder = self.encoding(2 * self.code)
        self.decoder = self.decoding(self.code)

    def posterior(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """mu and log sigma of q(z|x), each (B, latent)."""
        return self.moments(self.reader(x).flatten(1), y)

    def moments(self, h: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor]:
        """mu and log sigma of the code of the features h of x."""
        mu, log_sigma = self.conditional(self.encoder, h, y).chunk(2, -1)
        return mu, log_sigma.clamp(*LOG_SIGMAS)

    def code_at(self, eps: Tensor, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Float[Tensor, "*batch"]]:
        """The codes (..., B, latent) of standard normal noise, and log q(z|x) of each, (..., B)."""
        mu, log_sigma = self.posterior(x, y)
        return mu + log_sigma.exp() * eps, log_normal(eps) - log_sigma.sum(-1)

    def noise(self, x: Batch, *draws: int) -> Tensor:
        """Standard normal noise (*draws, B, latent)."""
        return torch.randn_like(self.log_scale.detach().new_empty(*draws, len(x), self.code))

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The bound at one draw of z, with its Kullback-Leibler term in closed form (appendix B)."""
        reconstruction, kl = self.terms(x, y)
        return reconstruction - kl.sum(-1)

    def elbo_at(self, x: Batch, z: Tensor, mu: Tensor, log_sigma: Tensor, y: Conditions | None = None) -> PerExample:
        """The bound at a given z ~ N(mu, sigma²)."""
        return self.likelihood(x, z, y) - gaussian_kl(mu, log_sigma).sum(-1)

    def terms(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, Tensor]:
        """log p(x|z) at one draw of z, and the Kullback-Leibler divergence of each dimension, (B, latent)."""
        mu, log_sigma = self.posterior(x, y)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        return self.likelihood(x, z, y), gaussian_kl(mu, log_sigma)

    def divergence(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return gaussian_kl(*self.posterior(x, y))

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        z, log_q = self.code_at(self.noise(x), x, y)
        return z, self.likelihood(x, z, y) - log_q

    def log_weights(self, x: Batch, y: Conditions | None = None, *, draws: int) -> Tensor:
        """``draws`` of log w of each example, (draws, B), for which the encoder is evaluated once."""
        z, log_q = self.code_at(self.noise(x, draws), x, y)
        return self.log_weights_at(x, z, log_q, y)

    def log_weights_at(
        self, x: Batch, z: Tensor, log_q: Tensor, y: Conditions | None = None, kl_weight: Tensor | float = 1.0
    ) -> Tensor:
        """log p(x|z) + kl_weight (log p(z) - log q(z|x)), (draws, B), of codes z (draws, B, latent)."""
        shape, z = z.shape[:2], z.flatten(0, 1)
        each_y = None if y is None else repeated(y, shape[0])
        outputs = self.outputs(z, each_y).unflatten(0, shape)
        log_p = self.observed.log_prob(outputs, x).flatten(2).sum(2)
        return log_p + kl_weight * (self.log_prior(z, each_y).unflatten(0, shape) - log_q)

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.code_at(self.noise(x), x, y)[0]

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The code of the posterior's mean, (B, latent)."""
        return self.code_at(torch.zeros_like(self.noise(x)), x, y)[0]


def log_normals(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(z; mu, sigma²) of each dimension."""
    return -0.5 * (((z - mu) / log_sigma.exp()).square() + math.log(2 * math.pi)) - log_sigma


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I), summed over the last dimension."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma²) || N(0, 1)) of each dimension, in nats (arXiv:1312.6114, appendix B)."""
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma)


class WarmedUp(LatentVariableModel):
    r"""A latent-variable model with a warm-up of the Kullback-Leibler term. Abstract: the loss is a subclass's.

    In training the weight of the divergence rises linearly from 0 to 1 over the first ``config.warmup`` steps, so that
    the code is in use before it is priced; in evaluation it is 1.

    Source: Ladder Variational Autoencoders (Sønderby et al., 2016), arXiv:1602.02282, section 2.3.
    """

    config: Any
    trained: Tensor

    def __init__(self, space: Space, config: Any, condition: Space | None = None, **sizes: Any) -> None:
        super().__init__(space, config, condition, **sizes)
        self.register_buffer("trained", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(with_count)

    def after_step(self, *outputs: Tensor) -> None:
        """Counts the steps of the warm-up."""
        self.trained += 1

    @property
    def kl_weight(self) -> Tensor | float:
        if not (self.training and self.config.warmup):
            return 1.0
        return (self.trained / self.config.warmup).clamp(max=1.0)


def observed(space: Space, config: NetworkConfig) -> Any:
    """The output distribution that the config names.

    Raises:
        BadInput: If it is none of a space of this kind, or convolutions are chosen for data without images.
    """
    if config.network == "conv" and len(space.shape) != 3:
        raise BadInput(f"convolutions need an image (C, H, W), got {space}", "choose network dense")
    known = OUTPUTS[space.kind]
    chosen = known[0] if config.output == "auto" else config.output
    if chosen == "bernoulli" and chosen not in known:
        wrong = f"{space} is not of zeros and ones: x log p + (1 - x) log(1 - p) of grey values is not a log-likelihood"
        raise BadInput(wrong, "train on mnist/dynamic or binarized_mnist, or choose the output auto")
    if chosen not in known:
        raise BadInput(f"the output distribution {chosen} is none of {space}", f"choose {', '.join(known)} or auto")
    if config.scale and (chosen not in ("logistics", "gaussian") or config.components > 1):
        raise BadInput(f"a fixed scale is of one logistic or Gaussian, and the output is {chosen}", "leave scale out")
    return output_distribution(space, 0 if chosen == "categorical" else config.components)


def with_shift(model: nn.Module, weights: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Converts earlier weights, in which ``log_scale`` is the whole log-scale, without a shift."""
    if f"{prefix}log_scale" in weights:
        weights.setdefault(f"{prefix}quick.shift", torch.zeros_like(weights[f"{prefix}log_scale"]))


def with_count(model: nn.Module, weights: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Weights of before there was a warm-up have no count of its steps."""
    weights.setdefault(f"{prefix}trained", torch.tensor(0.0))


def repeated(of: Tensor, draws: int) -> Tensor:
    """The batch, one copy for each draw, (draws * B, ...)."""
    return of.repeat(draws, *[1] * (of.ndim - 1))
