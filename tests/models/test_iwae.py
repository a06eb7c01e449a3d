"""The importance-weighted bound and its two gradients, on models whose likelihood is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from dgm.likelihood import WEIGHTS, evaluation_batch, log_likelihood
from dgm.models.vae.iwae import IWAE
from dgm.space import Space


def tilted(**config: object) -> tuple[IWAE, MultivariateNormal]:
    """p(x|z) = N(W z, s² I) with a posterior that is wrong in its means and its scales."""
    torch.manual_seed(0)
    iwae = IWAE(Space.continuous((2,)), IWAE.Config(latent=2, layers=1, **config)).double()  # type: ignore[arg-type]
    w = torch.tensor([[1.0, 0.5], [0.0, 1.5]], dtype=torch.float64)
    iwae.encoder, iwae.decoder = torch.nn.Linear(2, 4).double(), torch.nn.Linear(2, 2).double()
    gain = torch.linalg.inv(w.T @ w / 0.64 + torch.eye(2).double()) @ w.T / 0.64
    with torch.no_grad():
        iwae.encoder.weight.copy_(torch.cat([0.8 * gain, torch.full((2, 2), 0.1)]))
        iwae.decoder.weight.copy_(w)
        iwae.decoder.bias.zero_()
        iwae.encoder.bias.copy_(torch.tensor([0.2, -0.1, -0.6, -0.4]))
        iwae.log_scale.fill_(math.log(0.8))
    return iwae, MultivariateNormal(torch.zeros(2).double(), w @ w.T + 0.64 * torch.eye(2).double())


@pytest.mark.parametrize("gradient", ["plain", "doubly_reparameterised"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_the_loss_is_the_log_of_the_mean_weight(warmup: int, gradient: str) -> None:
    """Kills: a mean of logs, a K that is left out, a weight of another sign, a warm-up of log p(x|z) or of one term."""
    iwae, _ = tilted(samples=7, warmup=warmup, gradient=gradient)
    iwae.after_step()  # a quarter of the warm-up
    share = 0.25 if warmup else 1.0
    x = torch.randn(5, 2).double()
    torch.manual_seed(1)
    loss = iwae.loss(x)
    torch.manual_seed(1)
    mu, log_sigma = iwae.posterior(x)
    z = mu + log_sigma.exp() * torch.randn(7, 5, 2, dtype=torch.float64)
    log_ratio = (Normal(0.0, 1.0).log_prob(z) - Normal(mu, log_sigma.exp()).log_prob(z)).sum(-1)
    weights = (Normal(iwae.decoder(z), 0.8).log_prob(x).sum(-1) + share * log_ratio).exp()
    torch.testing.assert_close(loss, -weights.mean(0).log())


def test_many_samples_reach_the_likelihood_in_parts_of_bounded_size() -> None:
    """5,000 samples of each of 30 examples; the parts do not grow with the number of samples."""
    iwae, truth = tilted()
    x, rows = truth.sample((30,)), []
    iwae.decoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    found = log_likelihood(iwae, x, draws=5000)
    # the variance of the log of a mean of K weights is var(w) / (K E[w]²), here below 30 / 5000
    torch.testing.assert_close(found.nats, truth.log_prob(x), rtol=0, atol=0.4)
    assert abs(float((found.nats - truth.log_prob(x)).mean())) < 0.06
    assert sum(rows) == 30 * 5000
    assert max(rows) <= WEIGHTS * evaluation_batch(iwae)
    assert found.method.startswith("importance-weighted bound, K = 5000")


def gradients(iwae: IWAE, x: Tensor, blocks: int) -> Tensor:
    """The gradient of all parameters from each of many independent batches, (blocks, parameters)."""
    learnt = [p for p in iwae.parameters() if p.requires_grad]
    found = []
    for _ in range(blocks):
        each = torch.autograd.grad(iwae.loss(x).mean(), learnt)
        found.append(torch.cat([gradient.flatten() for gradient in each]))
    return torch.stack(found)


def test_the_doubly_reparameterised_gradient_has_the_same_mean_and_a_lower_variance() -> None:
    """Kills: a weight of the encoder's gradient that is not squared, or the decoder's that is; a score term left in."""
    both = {}
    for name in ("plain", "doubly_reparameterised"):
        iwae, _ = tilted(samples=8, gradient=name)
        torch.manual_seed(3)
        both[name] = gradients(iwae, torch.tensor([[0.4, -1.0], [1.5, 0.3]]).double().repeat(100, 1), 120)
    plain, doubly = both.values()
    error = ((plain.var(0) + doubly.var(0)) / len(plain)).sqrt()
    # 5 standard errors of 21 numbers: a false alarm in a hundred thousand
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 5 * error).all()
    of_encoder = encoder_places(iwae)
    assert (plain.mean(0)[of_encoder].abs() > 10 * error[of_encoder]).any(), "the comparison has no power"
    assert doubly.var(0)[of_encoder].sum() < 0.5 * plain.var(0)[of_encoder].sum()


def encoder_places(iwae: IWAE) -> Tensor:
    names = [(name, p.numel()) for name, p in iwae.named_parameters() if p.requires_grad]
    return torch.cat([torch.full((n,), name.startswith("encoder")) for name, n in names])


def test_both_gradients_are_of_one_value() -> None:
    found = []
    for name in ("plain", "doubly_reparameterised"):
        iwae, _ = tilted(samples=6, gradient=name)
        torch.manual_seed(2)
        found.append(iwae.loss(torch.ones(4, 2).double()).detach())
    torch.testing.assert_close(*found)
