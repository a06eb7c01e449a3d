"""beta-VAE: the weight of the divergence, and output distributions that all of the family share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from dgm.errors import BadInput
from dgm.models.vae.base import gaussian_kl
from dgm.models.vae.beta_vae import BetaVAE
from dgm.models.vae.vae import VAE
from dgm.networks.conv import ConvDecoder, ConvEncoder
from dgm.registry import create
from dgm.space import Space

LEVELS = Space.levels((1, 8, 8), 5)


def test_the_divergence_is_the_integral_of_its_definition() -> None:
    """By the trapezium rule. Kills: a sign, a factor or a term of the closed form."""
    mu, log_sigma = torch.tensor([0.7, -1.2]).double(), torch.tensor([-0.9, 0.4]).double()
    z = torch.linspace(-20, 20, 40_001).double()[:, None]
    q, p = Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)
    integral = torch.trapezoid(q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z)), z, dim=0)
    torch.testing.assert_close(gaussian_kl(mu, log_sigma), integral, rtol=0, atol=1e-9)


def test_the_loss_weighs_the_divergence_alone() -> None:
    """Kills: a weight of the reconstruction, a divergence without its weight, another sign."""
    vae, x = BetaVAE(LEVELS, BetaVAE.Config(latent=3, beta=7.0)), torch.randint(5, (6, 1, 8, 8)).to(torch.uint8)
    mu, log_sigma = vae.posterior(x)
    kl = kl_divergence(Independent(Normal(mu, log_sigma.exp()), 1), Independent(Normal(torch.zeros(3), 1.0), 1))
    torch.manual_seed(0)
    loss = vae.loss(x)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, -vae.elbo(x) + 6 * kl)


@pytest.mark.parametrize("space", [LEVELS, Space.continuous((3,), low=0.0, high=1.0)], ids=str)
def test_grey_values_are_refused_by_a_bernoulli_decoder_in_one_line(space: Space) -> None:
    """Kills: x log p + (1 - x) log(1 - p) of grey values taken for a likelihood."""
    with pytest.raises(BadInput, match="grey values is not a log-likelihood; train on mnist/dynamic") as refused:
        create("vae", space, output="bernoulli")
    assert "\n" not in str(refused.value)


def test_other_outputs_than_the_spaces_own_are_refused() -> None:
    for space, wrong in (
        (Space.binary((3,)), {"output": "logistics"}),
        (LEVELS, {"output": "gaussian"}),
        (Space.continuous((3,)), {"output": "categorical"}),
        (LEVELS, {"output": "categorical", "scale": 0.1}),
        (Space.continuous((3,)), {"network": "conv"}),
    ):
        with pytest.raises(BadInput):
            create("vae", space, **wrong)


def test_a_categorical_decoder_has_a_logit_for_each_level() -> None:
    vae = VAE(LEVELS, VAE.Config(latent=2, output="categorical"))
    z, x = torch.randn(3, 2), torch.randint(5, (3, 1, 8, 8)).to(torch.uint8)
    logits = vae.decoder(z).view(3, 1, 8, 8, 5)
    torch.testing.assert_close(vae.likelihood(x, z), Categorical(logits=logits).log_prob(x.long()).flatten(1).sum(1))


def test_a_mixture_has_scales_of_its_own_that_depend_on_z() -> None:
    vae = VAE(LEVELS, VAE.Config(latent=2, components=4))
    assert not vae.log_scale.requires_grad
    assert vae.outputs(torch.randn(3, 2), None).shape == (3, 1, 8, 8, 12)
    values = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 8, 8)
    outputs = vae.outputs(torch.randn(1, 2), None).expand(5, -1, -1, -1, -1)
    torch.testing.assert_close(vae.observed.log_prob(outputs, values).exp().sum(0), torch.ones(1, 8, 8))


def test_a_fixed_scale_is_the_squared_error_over_twice_its_square() -> None:
    vae = VAE(Space.continuous((3,)), VAE.Config(latent=2, scale=0.5))
    z, x = torch.randn(4, 2), torch.randn(4, 3)
    error = (x - vae.decoder(z)).square().sum(1)
    expected = -error / (2 * 0.25) - 3 * math.log(0.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(vae.likelihood(x, z), expected)
    assert not vae.log_scale.requires_grad


def test_convolutions_see_the_condition_and_give_each_pixel_its_own_numbers() -> None:
    """Kills: a condition that no convolution sees; the numbers of one pixel spread over the image."""
    encoder = ConvEncoder((2, 8, 6), 4, 5, numbers=3)
    x = torch.randn(1, 2 * 8 * 6 + 3).repeat(2, 1)
    x[1, -1] += 1
    found = encoder(x)
    assert found.shape == (2, 5)
    assert (found[0] - found[1]).abs().max() > 1e-4
    decoder = ConvDecoder(3, 4, (2, 8, 6), 3)
    z = torch.randn(2, 3)
    maps: list[torch.Tensor] = []
    decoder.last.register_forward_hook(lambda module, inputs, output: maps.append(output))
    found = decoder(z).unflatten(1, (2, 8, 6, 3))
    torch.testing.assert_close(found[:, 1, :, :, 2], maps[0][:, 5])


@pytest.mark.parametrize("condition", [None, Space.categories(3)])
def test_a_convolutional_vae_has_a_density(condition: Space | None) -> None:
    vae = create("vae", LEVELS, condition, network="conv", hidden=32, latent=2)
    x, y = torch.randint(5, (3, 1, 8, 8)).to(torch.uint8), None if condition is None else torch.tensor([0, 1, 2])
    assert next(m.in_channels for m in vae.encoder.modules() if isinstance(m, nn.Conv2d)) == (1 if y is None else 4)
    changed = vae.loss(x, y).sum()
    changed.backward()
    assert all(p.grad is not None for p in vae.parameters() if p.requires_grad)
