r"""beta-TCVAE: a variational autoencoder whose total correlation is weighted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.models.vae.base import DecoderConfig, GaussianVAE, gaussian_kl
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting


class TCVAE(GaussianVAE):
    r"""beta-TCVAE; its likelihood is a lower bound.

    The divergence is, on average over the data, the sum of the mutual information of x and z, the total correlation of
    z, and the divergences of its dimensions. The total correlation alone has the weight beta:

    .. math::
        L(x) = -E_{q(z|x)}[\log p(x|z)] + KL(q(z|x) \| N(0, I)) + (\beta - 1)\,
        KL\Big(q(z) \Big\| \prod_j q(z_j)\Big), \quad q(z) = \frac1N \sum_n q(z|x_n)

    The total correlation is estimated in each batch, by `log_aggregate`. `elbo` and `log_weight` have it with weight 1,
    and are in nats about x in the data's own numbers.

    Source: Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), arXiv:1802.04942,
    equations 2-4, with alpha = gamma = 1; the estimators of equations 5 and S.6. Differs from it: the divergence is in
    closed form; the output distributions and networks of `VAE`.

    Args:
        space: Any space but tokens.

    Example:
        >>> from dgm.space import Space
        >>> TCVAE(Space.binary((1, 4, 4)), TCVAE.Config(latent=2)).sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(DecoderConfig):
        beta: float = setting(6.0, "weight of the total correlation", low=0.0)
        estimator: Literal["weighted", "stratified"] = setting(
            "weighted", "minibatch weighted sampling, biased by a constant, or minibatch stratified sampling"
        )
        examples: int = setting(
            50_000, "N, the number of training examples, for the estimators", low=1, high=100_000_000
        )

    config: Config

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        mu, log_sigma = self.posterior(x, y)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        kl = gaussian_kl(mu, log_sigma).sum(-1)
        return kl + (self.config.beta - 1) * self.total_correlation(z, mu, log_sigma) - self.likelihood(x, z, y)

    def total_correlation(self, z: Tensor, mu: Tensor, log_sigma: Tensor) -> PerExample:
        """log q(z) - sum_j log q(z_j) at one z of each example of the batch."""
        log_q = log_density_pairs(z, mu, log_sigma)
        weights = log_weights_of_batch(len(z), self.config.examples, self.config.estimator).to(log_q)
        return log_aggregate(log_q.sum(-1), weights) - log_aggregate(log_q, weights).sum(-1)


def log_density_pairs(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log q(z_ij | x_m) of every code under every posterior: (B, B, latent), i before m."""
    standardised = (z[:, None] - mu) / log_sigma.exp()
    return -0.5 * (standardised.square() + math.log(2 * math.pi)) - log_sigma


def log_weights_of_batch(batch: int, examples: int, estimator: str) -> Tensor:
    r"""The log weights of the posteriors in the estimate of q(z_i), (B, B), row i for the code z_i ~ q(z|x_i).

    Weighted (equation 5): 1 / (N B) for each. The estimate of log q(z) is then too small by about log N.
    Stratified (equation S.6), with M = B - 1: 1 / N for the code's own posterior, (N - M) / (N M) for one other and
    1 / M for the rest, so that the expected estimate is q(z_i).

    Example:
        >>> log_weights_of_batch(3, 9, "stratified").exp()
        tensor([[0.1111, 0.3889, 0.5000],
                [0.5000, 0.1111, 0.3889],
                [0.3889, 0.5000, 0.1111]])
    """
    if estimator == "weighted":
        return torch.full((batch, batch), -math.log(examples * batch))
    n, m = max(examples, batch), max(batch - 1, 1)
    weights = torch.full((batch, batch), 1 / m)
    rows = torch.arange(batch)
    weights[rows, (rows + 1) % batch] = (n - m) / (n * m)
    weights[rows, rows] = 1 / n
    return weights.log()


def log_aggregate(log_q: Tensor, log_weights: Tensor) -> Tensor:
    """log q(z_i), (B, ...), from log q(z_i | x_m), (B, B, ...), and the log weights (B, B)."""
    return (log_q + log_weights.view(*log_weights.shape, *[1] * (log_q.ndim - 2))).logsumexp(1)
