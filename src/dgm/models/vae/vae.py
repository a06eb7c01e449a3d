r"""Variational autoencoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dgm.errors import Unsupported
from dgm.models.vae.base import LOG_SIGMAS, DecoderConfig, GaussianVAE, WarmedUp, log_normal, log_normals
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Streams
from dgm.settings import setting
from dgm.transforms import Autoregressive, Composition, Permutation

CONTEXT = 64  # outputs of the encoder that are further inputs of the flow of the posterior
WIDTH = 64  # of the hidden layers of the flows


class VAE(WarmedUp, GaussianVAE):
    r"""Variational autoencoder; its likelihood is a lower bound.

    .. math::
        \log p(x) \ge E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| p(z)), \quad q(z|x) = N(\mu(x), \sigma(x)^2)

    The prior is N(0, I); or VampPrior, the mixture of the posteriors of K learnt pseudo-inputs, p(z) = 1/K sum_k
    q(z|u_k); or a masked autoregressive flow. The posterior is normal, or z = T(z_0; x) with z_0 normal and T an
    inverse autoregressive flow. With a prior or a posterior that is not normal the divergence is estimated at one draw
    of z. In training its weight may rise from 0, and each dimension has its ``free_bits`` (of a divergence that is not
    a sum over dimensions, all of them together):

    .. math:: L = -E_q[\log p(x|z)] + \sum_j \max(\lambda, E_{batch}[KL_j])

    The decoder p(x|z) is Bernoulli on binary data, a discretised logistic on levels and a normal on real numbers; of a
    record, each column's own, a softmax on categories, with a probability of being missing, and with scales that depend
    on z. Grey values are refused by a Bernoulli decoder. Trained with a condition, this is the conditional VAE.
    Bounds are in nats about x in the data's own numbers. `log_weight` is one term of the importance-weighted bound.

    Source: Auto-Encoding Variational Bayes (Kingma & Welling, 2013), arXiv:1312.6114, equations 7 and 10 and appendix
    B; Importance Weighted Autoencoders (Burda et al., 2015), arXiv:1509.00519, equation 8; Improving Variational
    Inference with Inverse Autoregressive Flow (Kingma et al., 2016), arXiv:1606.04934, equations 10, 11 and 15; VAE
    with a VampPrior (Tomczak & Welling, 2017), arXiv:1705.07120, equation 9; Learning Structured Output Representation
    using Deep Conditional Generative Models (Sohn et al., 2015), equation 4, for the condition.
    Differs from them: SiLU in place of tanh; the scale of grey levels and real numbers is one parameter for each
    dimension, whose logarithm has ten times the learning rate: its initial value is far above that of a good decoder,
    and an optimiser with steps of constant length would need thousands of steps (Simple and Effective VAE Training with
    Calibrated Decoders, Rybkin et al., 2021, arXiv:2006.13202, section 3, where it is solved for in each batch; here it
    is a number of the model, the same in a bound and in training). Pseudo-inputs are not bounded.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> vae = VAE(Space.binary((1, 4, 4)), VAE.Config(latent=2))
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        prior: Literal["normal", "vamp", "flow"] = setting("normal", "p(z): normal, VampPrior, or autoregressive flow")
        pseudo_inputs: int = setting(100, "K, components of the VampPrior", low=1, high=100_000)
        posterior: Literal["normal", "iaf"] = setting("normal", "q(z|x): normal, or inverse autoregressive flow")
        flow_layers: int = setting(
            2, "autoregressive transforms of the flow of a prior or a posterior", low=1, high=100
        )
        warmup: int = setting(0, "steps over which the weight of the divergence rises to 1; 0 for none", low=0)
        free_bits: float = setting(0.0, "nats of each dimension's divergence without a gradient in training", low=0.0)

    config: Config

    def build(self) -> None:
        config = self.config
        iaf = config.posterior == "iaf"
        self.encoder = self.encoding(2 * self.code + CONTEXT * iaf)
        self.decoder = self.decoding(self.code)
        if config.prior == "vamp":
            inputs = self.space.dim * self.reader.width
            self.pseudo = nn.Parameter(0.5 * torch.randn(config.pseudo_inputs, inputs))
        if config.prior == "flow":
            self.prior_flow = autoregressive(self.code, config.flow_layers, self.features.width)
        if iaf:
            self.posterior_flow = autoregressive(self.code, config.flow_layers, CONTEXT)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        reconstruction, kl = self.terms(x, y)
        if self.training and self.config.free_bits:
            kl = with_free_bits(kl, self.config.free_bits * self.code / kl.shape[1])
        return self.kl_weight * kl.sum(-1) - reconstruction

    def terms(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, Tensor]:
        """log p(x|z) at one draw of z, and the divergence: of each dimension, or of all at this draw, (B, 1)."""
        if self.config.prior == self.config.posterior == "normal":
            return super().terms(x, y)
        z, log_q = self.code_at(self.noise(x), x, y)
        return self.likelihood(x, z, y), (log_q - self.log_prior(z, y))[:, None]

    def divergence(self, x: Batch, y: Conditions | None = None) -> Tensor:
        if self.config.prior == self.config.posterior == "normal":
            return super().divergence(x, y)
        z, log_q = self.code_at(self.noise(x), x, y)
        return (log_q - self.log_prior(z, y))[:, None]

    # -- the posterior

    def posterior(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        if self.config.posterior != "normal":
            raise Unsupported("the posterior of an inverse autoregressive flow is not normal", "use sample_code")
        return super().posterior(x, y)

    def moments(self, h: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor]:
        mu, log_sigma = self.conditional(self.encoder, h, y)[..., : 2 * self.code].chunk(2, -1)
        return mu, log_sigma.clamp(*LOG_SIGMAS)

    def code_at(self, eps: Tensor, x: Batch, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        if self.config.posterior == "normal":
            return super().code_at(eps, x, y)
        outputs = self.conditional(self.encoder, self.reader(x).flatten(1), y)
        mu, log_sigma, context = outputs.split([self.code, self.code, CONTEXT], -1)
        log_sigma = log_sigma.clamp(*LOG_SIGMAS)
        shape = eps.shape[:-1]
        z, ladj = self.posterior_flow(
            (mu + log_sigma.exp() * eps).reshape(-1, self.code), context.expand(*shape, -1).reshape(-1, CONTEXT)
        )
        return z.view_as(eps), log_normal(eps) - log_sigma.sum(-1) - ladj.view(shape)

    # -- the prior

    def log_prior(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        if self.config.prior == "vamp":
            mu, log_sigma = self.components(y)
            return log_normals(z[:, None], mu, log_sigma).sum(-1).logsumexp(1) - math.log(len(self.pseudo))
        if self.config.prior == "flow":
            noise, ladj = self.prior_flow(z, self.context(z, y))
            return log_normal(noise) + ladj
        return super().log_prior(z, y)

    def components(self, y: Conditions | None) -> tuple[Tensor, Tensor]:
        """The moments of the posteriors of all pseudo-inputs under each of B conditions, (B or 1, K, latent)."""
        if y is None:
            mu, log_sigma = self.moments(self.pseudo, None)
            return mu[None], log_sigma[None]
        distinct, place = y.unique(dim=0, return_inverse=True)  # of few labels, the encoder reads few conditions
        each = self.moments(self.pseudo.repeat(len(distinct), 1), distinct.repeat_interleave(len(self.pseudo), 0))
        mu, log_sigma = (moment.unflatten(0, (len(distinct), -1))[place] for moment in each)
        return mu, log_sigma

    def prior_code(self, noise: Streams, y: Conditions | None) -> Tensor:
        if self.config.prior == "vamp":
            k = (noise.uniform(()) * len(self.pseudo)).long().to(self.pseudo.device)
            mu, log_sigma = self.moments(self.pseudo[k], y)
            return mu + log_sigma.exp() * super().prior_code(noise, y)
        z = super().prior_code(noise, y)
        return self.prior_flow.inverse(z, self.context(z, y))[0] if self.config.prior == "flow" else z

    def context(self, z: Tensor, y: Conditions | None) -> Tensor | None:
        return None if y is None else self.features(y, z)


def autoregressive(dim: int, layers: int, context: int) -> Composition:
    """Masked autoregressive transforms, with the order of the dimensions reversed between them."""
    transforms: list[nn.Module] = []
    for k in range(layers):
        transforms += [Permutation(list(reversed(range(dim))))] if k else []
        transforms.append(Autoregressive(dim, hidden=(WIDTH, WIDTH), context=context))
    return Composition(transforms)


def with_free_bits(kl: Tensor, free: float) -> Tensor:
    """The divergences of a batch (B, groups), of which a group with a mean below ``free`` is this constant."""
    return torch.where(kl.mean(0, keepdim=True) > free, kl, free)
