r"""Variational autoencoder with categorical or Bernoulli latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dgm.models.vae.base import DecoderConfig, LatentVariableModel, repeated
from dgm.protocols import Batch, Conditions, PerExample, Symptom
from dgm.seeds import Streams
from dgm.settings import setting
from dgm.space import Space

EXAMPLES, DRAWS = 16, 32  # of which the variance of a gradient is measured in training


class DiscreteVAE(LatentVariableModel):
    r"""Variational autoencoder with discrete latents; its likelihood is a lower bound.

    .. math:: \log p(x) \ge E_{q(z|x)}[\log p(x|z)] - \sum_i KL(q(z_i|x) \| p(z_i)), \quad z_i \in \{1 \ldots K\}

    The posterior and the prior are categorical and independent in each latent, with K = 2 Bernoulli; the prior is
    learnt. There are two gradients of the first term. Gumbel-softmax replaces the one-hot vector of z_i by

    .. math:: y_i = softmax((\log q_i + g_i) / \tau), \quad g_{ik} = -\log(-\log u_{ik})

    so that the gradient passes through it; it is biased for tau > 0, and its variance grows as tau falls. REINFORCE is
    unbiased. Its baseline is the mean of the other of S draws:

    .. math:: \frac{1}{S} \sum_s (l_s - \tfrac{1}{S-1} \sum_{r \ne s} l_r) \nabla \log q(z_s|x), \quad
        l_s = \log p(x|z_s)

    The KL divergence and its gradient are exact. The variance of both gradients, whichever is chosen, is measured in
    training. Bounds are in nats about x in the data's own numbers, and always of
    discrete z; in evaluation mode the loss is the negative bound.

    Source: Categorical Reparameterization with Gumbel-Softmax (Jang et al., 2016), arXiv:1611.01144, equation 2; The
    Concrete Distribution (Maddison et al., 2016), arXiv:1611.00712, equation 10; Variational Inference for Monte Carlo
    Objectives (Mnih & Rezende, 2016), arXiv:1602.06725, section 2.5, for the baseline of the other draws.
    Differs from them: the temperature is constant; the prior is learnt; the output distributions and networks of `VAE`.

    Args:
        space: Any space but tokens.

    Example:
        >>> model = DiscreteVAE(Space.binary((1, 4, 4)), DiscreteVAE.Config(latent=3, categories=5))
        >>> model.latent_space, model.sample(3, seed=0).shape
        (Space(shape=(3,), kind='tokens', values=5, ...), torch.Size([3, 1, 4, 4]))
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        latent: int = setting(20, "number of latents", low=1)
        categories: int = setting(10, "K, values of each latent; 2 for Bernoulli", low=2)
        gradient: Literal["gumbel", "reinforce"] = setting("gumbel", "gradient of the posterior")
        temperature: float = setting(0.5, "tau of Gumbel-softmax", low=0.01)
        draws: int = setting(2, "S, draws of z for each example in training with REINFORCE", low=2, high=100_000)

    config: Config
    rsample = None  # type: ignore[assignment]  # no gradient passes through a discrete z

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition, code=config.latent)

    def build(self) -> None:
        codes = self.config.latent * self.config.categories
        self.encoder, self.decoder = self.encoding(codes), self.decoding(codes)
        self.prior = nn.Parameter(torch.zeros(self.config.latent, self.config.categories))

    @property
    def latent_space(self) -> Space:
        n, k = self.config.latent, self.config.categories
        return Space.binary((n,)) if k == 2 else Space.tokens(n, k)

    # -- the distributions

    def log_posterior(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """log q(z_i = k|x), (B, latent, K)."""
        logits = self.conditional(self.encoder, self.reader(x).flatten(1), y)
        return logits.unflatten(1, self.prior.shape).log_softmax(-1)

    def outputs(self, z: Tensor, y: Conditions | None) -> Tensor:
        """Of codes (B, latent), or of mixtures of their one-hot vectors (B, latent, K)."""
        return super().outputs((z if z.is_floating_point() else self.one_hot(z)).flatten(1), y)

    def log_prior(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return (self.prior.log_softmax(-1) * self.one_hot(z)).sum((1, 2))

    def prior_code(self, noise: Streams, y: Conditions | None) -> Tensor:
        return noise.categorical(self.prior.expand(len(noise), -1, -1)).to(self.latent_space.dtype)

    def divergence(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.divergence_of(self.log_posterior(x, y))

    def divergence_of(self, log_q: Tensor) -> Tensor:
        """KL(q(z_i|x) || p(z_i)) of each latent, (B, latent)."""
        return (log_q.exp() * (log_q - self.prior.log_softmax(-1))).sum(2)

    def one_hot(self, z: Tensor) -> Tensor:
        """(..., latent) codes to (..., latent, K)."""
        return one_hot(z.long(), self.config.categories).to(self.prior)

    # -- bounds

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        log_q = self.log_posterior(x, y)
        return self.likelihood(x, drawn(log_q), y) - self.divergence_of(log_q).sum(1)

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        log_q = self.log_posterior(x, y)
        z = drawn(log_q)
        log_q_of_z = (log_q * self.one_hot(z)).sum((1, 2))
        return z.to(self.latent_space.dtype), self.likelihood(x, z, y) - log_q_of_z

    # -- training

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        if not self.training:
            return -self.elbo(x, y)
        log_q = self.log_posterior(x, y)
        expected = self.relaxed if self.config.gradient == "gumbel" else self.scored
        return self.divergence_of(log_q).sum(1) - expected(x, log_q, y)

    def relaxed(self, x: Batch, log_q: Tensor, y: Conditions | None) -> PerExample:
        """log p(x|y) of a Gumbel-softmax y."""
        return self.likelihood(x, ((log_q + gumbel_like(log_q)) / self.config.temperature).softmax(-1), y)

    def scored(self, x: Batch, log_q: Tensor, y: Conditions | None) -> PerExample:
        """The mean of log p(x|z) over S draws, with the gradient of REINFORCE."""
        z = torch.stack([drawn(log_q) for _ in range(self.config.draws)])
        log_p = torch.stack([self.likelihood(x, one, y) for one in z])
        score = ((log_p - others(log_p)).detach() * (log_q * self.one_hot(z)).sum((2, 3))).mean(0)
        return log_p.mean(0) + score - score.detach()

    def diagnose(self, x: Batch, y: Conditions | None = None) -> dict[str, Symptom]:
        """The variance of both gradients, in nats² and summed over the logits of q; the mean of `EXAMPLES`."""
        x, y = x[:EXAMPLES], None if y is None else y[:EXAMPLES]
        ways = {"Gumbel-softmax": self.relaxed, "REINFORCE": self.scored}
        drawn = {name: self.gradients(way, x, y, DRAWS) for name, way in ways.items()}
        return {f"variance of {name}": Symptom(float(g.var(0).sum((1, 2)).mean())) for name, g in drawn.items()}

    def gradients(self, expected: Callable[..., PerExample], x: Batch, y: Conditions | None, n: int) -> Tensor:
        """n draws of the gradient of the first term with respect to the logits of q, (n, B, latent, K)."""
        many = repeated(x, n)
        conditions = None if y is None else repeated(y, n)
        with torch.enable_grad():
            logits = self.log_posterior(many, conditions).detach().requires_grad_()
            total = expected(many, logits.log_softmax(-1), conditions).sum()
        return torch.autograd.grad(total, logits)[0].unflatten(0, (n, -1))

    # -- codes

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return drawn(self.log_posterior(x, y)).to(self.latent_space.dtype)

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The most likely code, (B, latents)."""
        return self.log_posterior(x, y).argmax(-1).to(self.latent_space.dtype)


def gumbel_like(logits: Tensor) -> Tensor:
    """Draws of the standard Gumbel distribution, -log(-log u)."""
    return -torch.empty_like(logits).exponential_().log()


def drawn(log_q: Tensor) -> Tensor:
    """Categorical draws, the largest of log q plus Gumbel noise, int64 (..., latents)."""
    return (log_q + gumbel_like(log_q)).argmax(-1)


def others(log_p: Tensor) -> Tensor:
    """For each draw the mean of all other draws, (S, B)."""
    return (log_p.sum(0) - log_p) / (len(log_p) - 1)
