r"""Importance-weighted autoencoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.models.vae.base import DecoderConfig, GaussianVAE, WarmedUp, log_normal
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting


class IWAE(WarmedUp, GaussianVAE):
    r"""Importance-weighted autoencoder; its likelihood is a lower bound.

    .. math::
        \log p(x) \ge E\Big[\log \frac1K \sum_{k=1}^K w_k\Big], \quad w_k = \frac{p(x, z_k)}{q(z_k|x)},
        \quad z_k \sim q(z|x)

    The loss is this bound, negative, in nats. The doubly reparameterised gradient has the same expectation, and for the
    encoder a lower variance, which does not grow relative to the gradient as K does:

    .. math::
        \nabla_\phi = E\Big[\sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k}
        \frac{\partial z_k}{\partial \phi}\Big], \quad \tilde w_k = \frac{w_k}{\sum_j w_j}

    `elbo` is the bound of one sample, `log_weight` one log w_k; both in nats about x in the data's own numbers.

    Source: Importance Weighted Autoencoders (Burda et al., 2015), arXiv:1509.00519, equations 8 and 13; Doubly
    Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2018), arXiv:1810.04152, equation 8.
    Differs from them: the output distributions and networks of `VAE`; during a warm-up log p(z) - log q(z|x) has a
    weight in each log w_k.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> iwae = IWAE(Space.binary((1, 4, 4)), IWAE.Config(latent=2, samples=3))
        >>> iwae.loss(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        samples: int = setting(5, "K, samples of z for each example", low=1, high=100_000)
        gradient: Literal["plain", "doubly_reparameterised"] = setting("plain", "estimator of the encoder's gradient")
        warmup: int = setting(0, "steps over which the weight of log p(z) - log q(z|x) rises to 1; 0 for none", low=0)

    config: Config

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        if self.config.gradient == "plain" or not torch.is_grad_enabled():
            z, log_q = self.code_at(self.noise(x, self.config.samples), x, y)
            return math.log(self.config.samples) - self.log_weights_at(x, z, log_q, y, self.kl_weight).logsumexp(0)
        return self.doubly_reparameterised_loss(x, y)

    def doubly_reparameterised_loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The same value, with the gradient of equation 8 for the encoder and of equation 13 for the decoder."""
        mu, log_sigma = self.posterior(x, y)
        z = mu + log_sigma.exp() * torch.randn(self.config.samples, *mu.shape, device=mu.device, dtype=mu.dtype)
        # log q(z|x) as a function of z alone: its parameters are constants
        standardised = (z - mu.detach()) / log_sigma.detach().exp()
        log_q = log_normal(standardised) - log_sigma.detach().sum(-1)
        log_w = self.log_weights_at(x, z, log_q, y, self.kl_weight)
        share = log_w.detach().softmax(0)
        z.register_hook(lambda gradient: share[..., None] * gradient)  # the second factor w~ is of the encoder alone
        return valued(math.log(self.config.samples) - log_w.detach().logsumexp(0), -(share * log_w).sum(0))


def valued(value: Tensor, gradient: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another."""
    return value + gradient - gradient.detach()
