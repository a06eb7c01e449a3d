"""The VAE against a linear Gaussian one, whose posterior and likelihood are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from dgm.models.vae.vae import VAE
from dgm.space import Space


def linear() -> tuple[VAE, MultivariateNormal]:
    """p(x|z) = N(W z + b, s² I), with q the exact posterior, which is diagonal for orthogonal columns of W."""
    vae = VAE(Space.continuous((3,)), VAE.Config(latent=2, layers=1)).double()
    w = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    b, s = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), 0.7
    precision = w.T @ w / s**2 + torch.eye(2, dtype=torch.float64)
    gain = torch.linalg.inv(precision) @ w.T / s**2
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, 3).double()
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:2], encoder.bias[:2] = gain, -gain @ b
        encoder.bias[2:] = -0.5 * precision.diagonal().log()
        decoder.weight.copy_(w)
        decoder.bias.copy_(b)
        vae.log_scale.fill_(math.log(s))
    vae.encoder, vae.decoder = encoder, decoder
    return vae, MultivariateNormal(b, w @ w.T + s**2 * torch.eye(3, dtype=torch.float64))


def test_with_the_exact_posterior_each_weight_is_the_likelihood() -> None:
    vae, truth = linear()
    x = truth.sample((64,))
    assert torch.allclose(vae.log_weight(x), truth.log_prob(x), atol=1e-9)
    draws = vae.elbo(x.repeat(4000, 1)).view(4000, -1)
    error = draws.std(0) / math.sqrt(4000)
    assert ((draws.mean(0) - truth.log_prob(x)).abs() < 5 * error).all()
    assert error.max() < 0.1, "the posterior's noise is not normal"


def test_with_a_wrong_posterior_the_gap_is_its_divergence() -> None:
    vae, truth = linear()
    x = truth.sample((16,))
    exact_mu, exact_log_sigma = vae.posterior(x)
    with torch.no_grad():
        vae.encoder.bias[:2] += 0.3
        vae.encoder.bias[2:] += 0.2
    mu, log_sigma = vae.posterior(x)
    gap = kl_divergence(
        Independent(Normal(mu, log_sigma.exp()), 1), Independent(Normal(exact_mu, exact_log_sigma.exp()), 1)
    )
    draws = vae.elbo(x.repeat(4000, 1)).view(4000, -1)
    error = draws.std(0) / math.sqrt(4000)
    assert ((truth.log_prob(x) - gap - draws.mean(0)).abs() < 5 * error).all()


def test_samples_have_the_moments_of_the_model() -> None:
    vae, truth = linear()
    x = vae.float().sample(20_000, seed=0).double()
    assert (x.mean(0) - truth.mean).abs().max() < 5 * 2.2 / math.sqrt(20_000)
    assert (x.T.cov() - truth.covariance_matrix).abs().max() < 0.2


def test_a_decoder_without_z_is_its_distribution_alone() -> None:
    """p(x|z) sums to one over the levels."""
    vae = VAE(Space.levels((1,), 5), VAE.Config(latent=1, layers=1))
    for parameter in vae.decoder.parameters():
        nn.init.constant_(parameter, 0.1)
    x, z = torch.arange(5, dtype=torch.uint8)[:, None], torch.zeros(5, 1)
    assert vae.likelihood(x, z).exp().sum().item() == pytest.approx(1, abs=1e-5)
