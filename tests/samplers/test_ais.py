"""Annealed importance sampling between densities whose normalising constants are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from dgm.evaluation.annealed import annealed_log_prob, bracket
from dgm.models.vae.hierarchical_vae import HierarchicalVAE
from dgm.models.vae.vae import VAE
from dgm.samplers.ais import annealed_importance, geometric, sigmoid_schedule
from dgm.samplers.hmc import HMC, tuned
from dgm.seeds import Streams
from dgm.space import Space

SCALE, SHIFT = 0.3, 2.0  # f_1 = exp(-|x - SHIFT|² / (2 SCALE²)) of two dimensions, f_0 = N(0, I)
LOG_Z = 2 * math.log(SCALE * math.sqrt(2 * math.pi))


def log_f_0(x: Tensor) -> Tensor:
    return Normal(0.0, 1.0).log_prob(x).sum(1)


def log_ratio(x: Tensor) -> Tensor:
    return -(x - SHIFT).square().sum(1) / (2 * SCALE**2) - log_f_0(x)


def log_density(x: Tensor, beta: float) -> Tensor:
    return log_f_0(x) + beta * log_ratio(x)


def log_weights(betas: list[float], x: Tensor) -> Tensor:
    hmc = tuned(log_density, x.flip(0), betas, leapfrogs=5)
    return list(annealed_importance(x, geometric(log_ratio, hmc), betas))[-1].log_weight


def test_the_mean_weight_is_the_ratio_of_the_constants_from_both_ends() -> None:
    """Kills: a weight at the state after the transition, a sign, a difference of temperatures, a density between."""
    torch.manual_seed(0)
    betas = sigmoid_schedule(40)
    forward = log_weights(betas, torch.randn(400, 2))
    backward = log_weights(betas[::-1], SHIFT + SCALE * torch.randn(400, 2))
    for log_w, expected in ((forward, LOG_Z), (backward, -LOG_Z)):
        w = (log_w - expected).exp()
        assert abs(float(w.mean()) - 1) < 5 * float(w.std()) / math.sqrt(400)
    lower, upper = float(forward.mean()), -float(backward.mean())
    assert lower < LOG_Z < upper
    assert upper - lower < 2.5


def test_hmc_leaves_the_density_invariant_at_every_temperature() -> None:
    """Kills: a leapfrog step of half its length, an acceptance that ignores the momenta or has another sign.

    The step is large, so that many proposals are rejected: the error of the integrator must not show.
    """
    torch.manual_seed(1)
    for beta in (0.0, 0.4, 1.0):
        precision = 1 + beta * (1 / SCALE**2 - 1)
        mean, sigma = beta * SHIFT / SCALE**2 / precision, precision**-0.5
        x = mean + sigma * torch.randn(20_000, 2)
        hmc = HMC(log_density, {beta: 1.5 * sigma}, leapfrogs=3)
        for _ in range(3):
            x = hmc(x, beta)
        assert 0.3 < hmc.accepted < 0.95
        standardised = (x - mean) / sigma
        # standard errors of the mean and of the variance of 20,000 numbers
        assert (standardised.mean(0).abs() < 5 / math.sqrt(20_000)).all()
        assert ((standardised.var(0) - 1).abs() < 5 * math.sqrt(2 / 20_000)).all()


def test_any_transition_kernel_serves_a_gibbs_sweep_too() -> None:
    """Independent bits: from fair ones to exp(3 x), whose constant is the product of 1 + e^3."""
    torch.manual_seed(2)

    def gibbs(x: Tensor, beta: float) -> Tensor:
        return Bernoulli(logits=torch.full_like(x, 3 * beta)).sample()

    x = Bernoulli(0.5).sample((500, 4))
    step = geometric(lambda x: 3 * x.sum(1) + 4 * math.log(2), gibbs)
    states = annealed_importance(x, step, [k / 50 for k in range(51)])
    w = (list(states)[-1].log_weight - 4 * math.log(1 + math.exp(3))).exp()
    assert abs(float(w.mean()) - 1) < 5 * float(w.std()) / math.sqrt(500)
    assert w.std() < 0.5


def test_step_sizes_are_tuned_to_two_accepted_of_three() -> None:
    torch.manual_seed(3)
    hmc = tuned(log_density, torch.randn(200, 2), sigmoid_schedule(150), leapfrogs=5, step_size=1.0)
    rates = []
    x = torch.randn(200, 2)
    for beta in hmc.step_sizes:
        x = hmc(x, beta)
        rates.append(hmc.accepted)
    assert 0.55 < sum(rates[75:]) / 75 < 0.8


def vae() -> tuple[VAE, MultivariateNormal]:
    torch.manual_seed(4)
    model = VAE(Space.continuous((3,)), VAE.Config(latent=2, layers=1, scale=0.4))
    model.decoder = torch.nn.Linear(2, 3)
    w, b = model.decoder.weight.detach(), model.decoder.bias.detach()
    return model, MultivariateNormal(b, w @ w.T + 0.16 * torch.eye(3))


def test_the_bracket_of_simulated_data_holds_the_likelihood() -> None:
    """Kills: a posterior that is another example's, simulated data without its noise, bounds exchanged."""
    model, truth = vae()
    with torch.no_grad():
        model.decoder.weight.mul_(3)
    truth = MultivariateNormal(model.decoder.bias.detach(), truth.covariance_matrix * 9 - 8 * 0.16 * torch.eye(3))
    torch.manual_seed(5)
    found = bracket(model, 40, temperatures=30, seed=0, chains=4)
    exact = truth.log_prob(found.x).double()
    for bound, sign in ((found.lower, 1), (found.upper, -1)):
        gap = sign * (exact - bound)
        assert float(gap.mean()) > -5 * float(gap.std()) / math.sqrt(40)
        assert float(gap.mean()) < 0.5
    assert (found.upper - found.lower).mean() > 0


def test_from_the_posterior_one_temperature_bounds_each_example_by_its_own_code() -> None:
    """w = p(z) / p(z) p(x|z) at the z that x was simulated from. Kills: a code of another example."""
    model, _ = vae()
    found = bracket(model, 6, temperatures=1, seed=3, chains=4)
    with torch.no_grad():
        expected = model.likelihood(found.x, model.prior_code(Streams(3, range(6)), None))
    torch.testing.assert_close(found.upper.float(), expected, rtol=1e-4, atol=1e-4)


def test_a_conditional_model_and_whitened_codes_are_annealed_too() -> None:
    model = HierarchicalVAE(Space.binary((4,)), HierarchicalVAE.Config(latents=(2, 1), hidden=8), Space.categories(2))
    x, y = torch.randint(2, (3, 4)).to(torch.uint8), torch.tensor([0, 1, 1])
    torch.manual_seed(6)
    found = annealed_log_prob(model, x, y, temperatures=20, chains=8)
    draws = model.log_weight(x.repeat(4000, 1), y.repeat(4000)).view(4000, 3).detach()
    expected = draws.logsumexp(0) - math.log(4000)
    assert (found - expected).abs().tolist() == pytest.approx([0, 0, 0], abs=0.2)
