"""Hierarchies against a linear Gaussian one, whose posterior and likelihood are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dgm import create
from dgm.models.vae.hierarchical_vae import HierarchicalVAE
from dgm.models.vae.hierarchy import Hierarchy, moments
from dgm.models.vae.ladder_vae import LadderVAE, product
from dgm.space import Space

A, S1 = 0.8, 0.5  # p(z_1|z_2) = N(A z_2, S1²)
B, S = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64), 0.7  # p(x|z_1) = N(B z_1, S²)
V1 = A**2 + S1**2  # the variance of z_1
TRUTH = MultivariateNormal(torch.zeros(3).double(), V1 * B @ B.T + S**2 * torch.eye(3).double())
PRECISION = float((B.T @ B) / S**2)  # of p(x|z_1) as a function of z_1


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def gaussian(slope: Tensor, sigma: float) -> nn.Linear:
    """mu = slope · input, and log sigma."""
    return linear(
        torch.cat([slope, torch.zeros_like(slope)]), torch.tensor([0.0, math.log(sigma)], dtype=torch.float64)
    )


def chain(samples: int = 1) -> HierarchicalVAE:
    config = HierarchicalVAE.Config(latents=(1, 1), layers=1, samples=samples)
    model = HierarchicalVAE(Space.continuous((3,)), config).double()
    variance = 1 / (PRECISION + 1 / V1)
    model.encoder = gaussian(variance * B.T / S**2, math.sqrt(variance))
    model.upwards[0] = gaussian(torch.tensor([[A / V1]], dtype=torch.float64), math.sqrt(1 - A**2 / V1))
    return with_model(model)


def ladder() -> LadderVAE:
    """The factor of z_1 is p(x|z_1), and that of z_2 is p(z_2|x)."""
    model = with_model(LadderVAE(Space.continuous((3,)), LadderVAE.Config(latents=(1, 1), layers=1)).double())
    gain = A * B.T @ torch.linalg.inv(TRUTH.covariance_matrix)
    sigma_2 = math.sqrt(1 - float(gain @ (A * B)))

    def factors(x: Tensor, y: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        like = torch.ones(len(x), 1).double()
        return [
            (x @ gain.T, math.log(sigma_2) * like),
            (x @ B / S**2 / PRECISION, -0.5 * math.log(PRECISION) * like),
        ]

    model.evidence = factors  # type: ignore[method-assign]
    return model


def with_model(model: Any) -> Any:
    model.priors[0] = gaussian(torch.tensor([[A]], dtype=torch.float64), S1)
    model.decoder = linear(B, torch.zeros(3))
    with torch.no_grad():
        model.log_scale.fill_(math.log(S))
    return model


EXACT = {"chain": chain, "ladder": ladder}


def test_the_loss_of_several_samples_is_minus_the_log_of_an_unbiased_estimate_of_the_density() -> None:
    """Kills: no log K, a mean of logarithms, a mean over examples, draws of z that are equal."""
    x, weights = TRUTH.sample((2,)), {}
    for samples in (1, 4):
        model = chain(samples)
        with torch.no_grad():
            model.encoder.bias[0] += 0.3  # a posterior that is not the true one
            weights[samples] = (-model.loss(x.repeat(4000, 1)).unflatten(0, (4000, 2)) - TRUTH.log_prob(x)).exp()
    for found in weights.values():
        assert ((found.mean(0) - 1).abs() < 4 * found.std(0) / 4000**0.5).all()
    ratio = weights[1].var(0) / weights[4].var(0)
    assert ((ratio > 3) & (ratio < 5.3)).all()


@pytest.mark.parametrize("name", EXACT)
def test_with_the_exact_posterior_the_bound_is_tight(name: str) -> None:
    """Kills: each term of the weight, a level left out, a prior given the wrong level, a code that is not whitened."""
    model, x = EXACT[name](), TRUTH.sample((64,))
    torch.testing.assert_close(model.log_weight(x), TRUTH.log_prob(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.log_weights(x, draws=3), TRUTH.log_prob(x).expand(3, -1), rtol=0, atol=1e-9)
    draws = model.elbo(x.repeat(2000, 1)).view(2000, -1)
    error = draws.std(0) / math.sqrt(2000) + 1e-9
    assert ((draws.mean(0) - TRUTH.log_prob(x)).abs() < 5 * error).all()


@pytest.mark.parametrize("name", ["hierarchical_vae", "ladder_vae"])
def test_many_weights_are_independent_draws(name: str) -> None:
    """Kills: one draw that is repeated; draws or examples in each other's places."""
    model: Any = create(name, Space.binary((3,)), latents=(2, 1), hidden=8)
    x = torch.tensor([[0, 0, 0], [1, 1, 1]], dtype=torch.uint8)
    many = model.log_weights(x, draws=4000)
    one = model.log_weight(x.repeat(4000, 1)).view(4000, 2)
    error = (many.var(0) + one.var(0)).div(4000).sqrt()
    assert ((many.mean(0) - one.mean(0)).abs() < 5 * error).all()
    assert (many.std(0) / one.std(0) - 1).abs().max() < 0.1
    assert model.loss(x[:0]).shape == (0,)
    assert len(many[:, 0].unique()) > 3900  # of 4,000, in single precision


@pytest.mark.parametrize("name", EXACT)
def test_codes_of_data_of_the_model_are_standard_normal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: codes that are z itself, another order of the levels, an encoding that is not at the posterior's means."""
    model, n = EXACT[name](), 20_000
    x = TRUTH.sample((n,))
    code = model.sample_code(x)
    assert (code.T.cov() - torch.eye(2)).abs().max() < 5 * 1.5 / math.sqrt(n)
    # decoded, a code is the mean of x given the z_1 that it stands for
    z_1 = A * code[:, :1] + S1 * code[:, 1:]
    torch.testing.assert_close(model.decode(code), z_1 @ B.T)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    torch.testing.assert_close(model.encode(x[:9]), model.sample_code(x[:9]))


@pytest.mark.parametrize("name", EXACT)
def test_samples_have_the_moments_of_the_model(name: str) -> None:
    x = EXACT[name]().float().sample(20_000, seed=0).double()
    # the largest entry of the covariance is 4.1, with a standard error of 4.1 sqrt(2 / n)
    assert (x.T.cov() - TRUTH.covariance_matrix).abs().max() < 5 * 4.1 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("name", EXACT)
def test_the_divergence_is_weighted_by_the_warm_up_in_training_alone(name: str) -> None:
    """Kills: a warm-up of another length or slope, in evaluation too, or of the reconstruction."""
    cls: Any = type(EXACT[name]())
    model: Hierarchy = cls(Space.binary((3,)), cls.Config(latents=(2, 1), warmup=4))
    x, found = torch.randint(2, (5, 3)).to(torch.uint8), []
    for _ in range(6):
        torch.manual_seed(0)
        found.append(model.loss(x).mean().item())
        model.after_step()
    slopes = torch.tensor(found).diff()
    torch.testing.assert_close(slopes, torch.cat([slopes[:1].expand(4), torch.zeros(1)]), rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    assert model.eval().loss(x).mean().item() == pytest.approx(found[-1])
    model.trained.zero_()
    torch.manual_seed(0)
    assert model.loss(x).mean().item() == pytest.approx(found[-1])


def test_scales_of_all_levels_are_bounded_on_both_sides() -> None:
    mu, log_sigma = moments(torch.tensor([[0.5, -50.0], [0.5, 1.5], [0.5, 50.0]]))
    assert mu.flatten().tolist() == [0.5, 0.5, 0.5]
    assert log_sigma.flatten().tolist() == [-3, 1.5, 3]


def test_the_product_of_two_normals_is_normal() -> None:
    """Kills: scales for precisions, and shares exchanged."""
    parameters = torch.tensor([0.4, -0.3, -1.0, 0.5], dtype=torch.float64)
    (mu, log_sigma), z = product(*parameters), torch.linspace(-3, 3, 7).double()
    both = sum(Normal(parameters[k], parameters[k + 1].exp()).log_prob(z) for k in (0, 2))
    found = Normal(mu, log_sigma.exp()).log_prob(z)
    torch.testing.assert_close((both - found).diff(), torch.zeros(6).double(), rtol=0, atol=1e-9)


def test_the_ladders_divergence_is_that_of_two_normals() -> None:
    model = LadderVAE(Space.continuous((3,)), LadderVAE.Config(latents=(4, 2)))
    levels = model.infer(torch.randn(6, 3), None)
    expected = [kl_divergence(Normal(v.q_mu, v.q_log_sigma.exp()), Normal(v.p_mu, v.p_log_sigma.exp())) for v in levels]
    torch.testing.assert_close(model.divergences(levels), torch.cat(expected, -1))


@pytest.mark.parametrize("name", ["hierarchical_vae", "ladder_vae"])
def test_without_a_warm_up_the_loss_is_the_negative_bound(name: str) -> None:
    """With the same noise. Kills: the sign, a weight of the divergence other than 1."""
    model = create(name, Space.binary((6,)), latents=(3, 2), hidden=8)
    x = torch.randint(2, (5, 6), dtype=torch.uint8)
    torch.manual_seed(0)
    loss = model.loss(x)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, -model.elbo(x))
