"""The total correlation: estimators of a batch and the density ratio of a discriminator, on Gaussian codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgm.models.vae.factor_vae import FactorVAE, permuted_dimensions
from dgm.models.vae.tc_vae import TCVAE, log_aggregate, log_density_pairs, log_weights_of_batch
from dgm.space import Space

SIGMA = 0.4
COVARIANCE = torch.tensor([[1.2, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 0.9]], dtype=torch.float64)
TRUE = 0.5 * float(COVARIANCE.diagonal().log().sum() - torch.logdet(COVARIANCE))


def gaussian_codes(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes whose aggregate is N(0, COVARIANCE), with their posteriors N(mu, SIGMA²)."""
    torch.manual_seed(0)
    of_means = COVARIANCE - SIGMA**2 * torch.eye(3)
    mu = torch.distributions.MultivariateNormal(torch.zeros(3).double(), of_means).sample((n,))
    return mu + SIGMA * torch.randn(n, 3, dtype=torch.float64), mu, torch.full((n, 3), math.log(SIGMA)).double()


def tc(estimator: str, examples: int, z: Tensor, mu: Tensor, log_sigma: Tensor) -> float:
    model = TCVAE(Space.continuous((2,)), TCVAE.Config(latent=3, estimator=estimator, examples=examples))  # type: ignore[arg-type]
    return float(model.total_correlation(z, mu, log_sigma).mean())


def test_both_estimators_give_the_total_correlation_of_a_gaussian() -> None:
    """With all examples in the batch. Kills: a marginal for the joint density, a sign, a weight, a transposed pair.

    The standard error of a mean of 1,500 log ratios is 0.02, and the kernel estimate of q(z) adds a bias of 0.03.
    """
    codes = gaussian_codes(1500)
    assert abs(tc("stratified", 1500, *codes) - TRUE) < 0.08
    # minibatch weighted sampling is off by log N for each density
    assert abs(tc("weighted", 1500, *codes) - 2 * math.log(1500) - TRUE) < 0.08
    assert TRUE > 0.4


def test_the_stratified_estimate_of_the_density_is_unbiased() -> None:
    """Over all batches of three of five examples with one of them fixed. Kills: each of its three weights."""
    z, mu, log_sigma = gaussian_codes(5)
    log_q = log_density_pairs(z, mu, log_sigma).sum(-1)
    pairs = [(a, b) for a in range(1, 5) for b in range(1, 5) if a != b]
    weights = log_weights_of_batch(3, 5, "stratified").double()
    found = [log_aggregate(log_q[[0, a, b]][:, [0, a, b]], weights)[0].exp() for a, b in pairs]
    torch.testing.assert_close(torch.stack(found).mean(), log_q[0].exp().mean(), rtol=1e-6, atol=0)


def test_the_weights_of_a_batch_are_a_distribution_even_of_more_examples_than_there_are_said_to_be() -> None:
    for batch, examples in ((5, 50), (5, 5), (5, 3), (1, 3)):
        weights = log_weights_of_batch(batch, examples, "stratified").exp()
        assert weights.min() > 0 or examples <= batch
        if batch > 1:
            torch.testing.assert_close(weights.sum(1), torch.ones(batch))


def test_the_loss_adds_the_total_correlation_beyond_weight_one() -> None:
    """Kills: a weight beta in place of beta - 1, a divergence or a reconstruction of another sign."""
    x = torch.randint(2, (16, 1, 3, 3)).to(torch.uint8)
    model = TCVAE(Space.binary((1, 3, 3)), TCVAE.Config(latent=2, beta=5.0))
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    mu, log_sigma = model.posterior(x)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.elbo(x) + 4 * model.total_correlation(z, mu, log_sigma))


def test_permuted_codes_have_the_marginals_and_no_correlation() -> None:
    """Kills: whole codes permuted, or dimensions drawn with replacement."""
    z = gaussian_codes(4000)[0]
    permuted = permuted_dimensions(z)
    assert torch.equal(permuted.sort(0).values, z.sort(0).values)
    assert (permuted.T.corrcoef() - torch.eye(3)).abs().max() < 5 / math.sqrt(4000)


def test_the_discriminators_logit_learns_the_total_correlation() -> None:
    """The game's first loss, descended on Gaussian codes. Kills: the two classes exchanged, or a sign of the logit."""
    model = FactorVAE(Space.continuous((3,)), FactorVAE.Config(latent=3, width=32, depth=2, layers=1))
    identity = torch.nn.Linear(3, 6)
    with torch.no_grad():
        identity.weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)]))
        identity.bias.copy_(torch.cat([torch.zeros(3), torch.full((3,), math.log(SIGMA))]))
    model.vae.encoder = identity
    _, mu, _ = gaussian_codes(4096)
    optimiser = torch.optim.Adam(model.discriminator.parameters(), lr=1e-2)
    for rows in torch.arange(4096).repeat(16).split(256):
        _, loss = next(model.losses(mu[rows].float()))
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    z = mu.float() + SIGMA * torch.randn(4096, 3)
    assert abs(float(model.logit(z).detach().mean()) - TRUE) < 0.15


def test_the_vaes_loss_adds_the_logit() -> None:
    """Kills: a logit of another sign, without its weight, or of other codes than those decoded."""
    x = torch.randint(2, (16, 1, 3, 3)).to(torch.uint8)
    model = FactorVAE(Space.binary((1, 3, 3)), FactorVAE.Config(latent=2, gamma=7.0))
    torch.manual_seed(1)
    loss = dict(model.losses(x))["vae"]
    torch.manual_seed(1)
    mu, log_sigma = model.vae.posterior(x)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.elbo(x) + 7 * model.discriminator(z)[:, 0])
