"""The VAE against a linear Gaussian one, whose posterior and likelihood are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from dgm import contracts
from dgm.models.vae.vae import VAE
from dgm.registry import create
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


def test_labels_stand_beside_what_both_networks_read() -> None:
    """Kills: a label that only one of the two networks sees, or another one's."""
    vae = VAE(Space.continuous((3,)), VAE.Config(latent=2, hidden=5), Space.categories(4))
    x, z, y = torch.randn(2, 3), torch.randn(2, 2), torch.tensor([3, 1])
    of = torch.tensor([[0, 0, 0, 1.0], [0, 1.0, 0, 0]])
    mu, log_sigma = vae.encoder(torch.cat([x, of], 1)).split(2, 1)
    for found, expected in zip(vae.posterior(x, y), (mu, log_sigma.clamp(-7, 3)), strict=True):
        assert torch.allclose(found, expected)
    assert torch.allclose(vae.outputs(z, y)[..., 1], vae.decoder(torch.cat([z, of], 1)))
    assert torch.equal(vae.encode(x, y), vae.posterior(x, y)[0])
    assert torch.allclose(vae.decode(z, y), vae.decoder(torch.cat([z, of], 1)), atol=1e-6)


@pytest.mark.parametrize("space", [Space.levels((1, 2, 3), 256), Space.binary((1, 2, 3))], ids=str)
def test_the_decoder_is_a_logistic_on_levels_and_a_logit_on_bits(space: Space) -> None:
    vae = VAE(space, VAE.Config(latent=2, hidden=5))
    z, x = torch.randn(4, 2), torch.randint(space.values or 0, (4, *space.shape)).to(space.dtype)
    mean = vae.decoder(z).view(4, *space.shape).double()
    if space.kind == "binary":
        expected = torch.distributions.Bernoulli(logits=mean).log_prob(x.double())
    else:
        s = vae.log_scale.double().exp()
        upper = torch.where(x == 255, 1.0, (((x.double() + 0.5) / 127.5 - 1 - mean) / s).sigmoid())
        lower = torch.where(x == 0, 0.0, (((x.double() - 0.5) / 127.5 - 1 - mean) / s).sigmoid())
        expected = (upper - lower).log()
    assert torch.allclose(vae.likelihood(x, z).double(), expected.flatten(1).sum(1), atol=1e-3)


def test_all_numbers_of_a_records_columns_are_the_decoders() -> None:
    """Three a column, as of a single logistic. Kills: one scale for all z, two logits of three that no network has."""
    space = Space.record(pay=Space.continuous(()), kind=Space.categories(3))
    vae = VAE(space, VAE.Config(latent=2, hidden=5, components=1))
    z = torch.randn(4, 2)
    torch.testing.assert_close(vae.outputs(z, None), vae.decoder(z).view(4, 2, 3))


def test_the_posteriors_scale_is_bounded_on_both_sides() -> None:
    vae = VAE(Space.continuous((1,)), VAE.Config(latent=1, layers=1))
    vae.encoder = nn.Linear(1, 2)
    with torch.no_grad():
        vae.encoder.weight.copy_(torch.tensor([[0.0], [1.0]]))
        vae.encoder.bias.zero_()
    assert vae.posterior(torch.tensor([[-50.0], [1.5], [50.0]]))[1].flatten().tolist() == [-7, 1.5, 3]


def test_the_layers_are_as_many_and_as_wide_as_the_settings_say() -> None:
    vae = VAE(Space.continuous((7,)), VAE.Config(latent=2, hidden=5, layers=3))
    for network, widths in ((vae.encoder, [7, 5, 5, 5, 4]), (vae.decoder, [2, 5, 5, 5, 7])):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths


def test_the_scale_is_learnt_ten_times_as_fast_as_the_rest() -> None:
    """Adam's first step is lr for every parameter: here eleven of them, of the scale and of what multiplies by ten."""
    torch.manual_seed(0)
    vae = VAE(Space.levels((5,), 256), VAE.Config(latent=1, hidden=8, layers=1))
    x = torch.full((64, 5), 100, dtype=torch.uint8)

    def log_scale() -> torch.Tensor:
        return vae.outputs(torch.zeros(1, 1), None)[0, :, 2].detach()

    before, optimiser = log_scale(), torch.optim.Adam(vae.parameters(), lr=0.01)
    assert torch.equal(before, torch.full((5,), -1.0))
    vae.loss(x).mean().backward()
    optimiser.step()
    torch.testing.assert_close((before - log_scale()).abs(), torch.full((5,), 0.11), rtol=1e-3, atol=0)


def test_weights_of_before_the_scale_was_learnt_quickly_have_theirs() -> None:
    vae = VAE(Space.levels((5,), 256), VAE.Config(latent=1, hidden=8, layers=1))
    weights = {name: tensor for name, tensor in vae.state_dict().items() if name != "quick.shift"}
    weights["log_scale"] = torch.arange(5.0)
    with torch.no_grad():
        vae.quick["shift"].fill_(3.0)
    vae.load_state_dict(weights)
    torch.testing.assert_close(vae.outputs(torch.zeros(1, 1), None)[0, :, 2], torch.arange(5.0), rtol=0, atol=0)


@pytest.mark.parametrize("space", [Space.levels((3,), 17), Space.continuous((3,)), Space.binary((3,))])
def test_the_mean_of_a_sample_is_its_decoders(space: Space) -> None:
    """With no noise left a sample is its mean. Kills: another z for the mean, and a mean with noise."""
    vae = VAE(space, VAE.Config(latent=2, hidden=8, layers=1))
    with torch.no_grad():
        vae.log_scale.fill_(-7.0)
        vae.decoder[-1].weight.mul_(100 if space.kind == "binary" else 1)
    mean, sample = (draw(200, seed=1).float() for draw in (vae.sample_mean, vae.sample))
    assert mean.unique(dim=0).shape[0] > 1
    near = 0.05  # of the values lie that close to where a level or a bit ends
    assert ((mean - sample).abs() > 0.02).float().mean() < near


SMALL = (Space.binary((1, 2, 2)), Space.levels((1, 2, 2), 3), Space.levels((1,), 256))


def over_the_noise(vae: VAE, draw: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What ``draw`` gives of each x under every noise eps of a grid, (grid, B), eps (grid,) and its weights."""
    eps = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    rows = x.repeat_interleave(len(eps), 0)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "randn_like", lambda like: eps.repeat(len(x))[:, None].to(like))
        found = draw(rows)
    return found.view(len(x), len(eps)).mT


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_weights_of_any_posterior_sum_to_one_over_all_x_and_their_mean_log_is_the_bound(space: Space) -> None:
    """Over one latent dimension by the trapezium rule, where draws of heavy-tailed weights say little.

    Kills: each term of the weight, and each of the divergence in closed form.
    """
    vae = contracts.perturbed(VAE(space, VAE.Config(latent=1, hidden=8, layers=1))).double()
    with torch.no_grad():
        vae.encoder[-1].bias.copy_(torch.tensor([0.4, -1.0]))  # a posterior narrower than the prior
    x = contracts.all_examples(space)
    eps = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    log_w, bounds = over_the_noise(vae, vae.log_weight, x), over_the_noise(vae, vae.elbo, x)
    density = Normal(0.0, 1.0).log_prob(eps)[:, None]
    p = torch.trapezoid((log_w + density).exp(), eps, dim=0)
    assert p.sum().item() == pytest.approx(1, abs=1e-4)
    mean_log, mean_bound = (torch.trapezoid(v * density.exp(), eps, dim=0) for v in (log_w, bounds))
    torch.testing.assert_close(mean_bound, mean_log, rtol=0, atol=1e-5)
    assert (mean_bound < p.log()).all()


@pytest.mark.parametrize("chosen", [{}, {"prior": "vamp"}, {"prior": "flow"}, {"posterior": "iaf"}])
@pytest.mark.parametrize("condition", [None, Space.categories(3)], ids=["free", "label"])
@torch.no_grad()
def test_many_weights_are_those_of_one_draw_each(chosen: dict[str, Any], condition: Space | None) -> None:
    """Kills: log q or log p(z) left out of them, or of another sign; labels of other examples."""
    vae: Any = contracts.perturbed(
        create("vae", Space.binary((1, 3, 3)), condition, hidden=8, latent=2, **chosen)
    ).double()
    y = None if condition is None else torch.tensor([0, 1, 2, 1, 0])
    x = torch.randint(2, (5, 1, 3, 3)).to(torch.uint8)
    torch.manual_seed(1)
    many = vae.log_weights(x, y, draws=3)
    torch.manual_seed(1)
    eps = torch.randn(3, 5, 2, dtype=torch.float64)
    for of_one, noise in zip(many, eps, strict=True):
        vae.noise = lambda x, *draws, noise=noise: noise
        torch.testing.assert_close(of_one, vae.log_weight(x, y))
