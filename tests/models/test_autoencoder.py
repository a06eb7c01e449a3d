"""The autoencoder finds the principal subspace where it can only be linear, and samples its codes' Gaussian."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dgm.models.autoencoder.autoencoder import Autoencoder
from dgm.space import Space


def test_a_linear_one_loses_what_lies_outside_the_principal_subspace() -> None:
    x = torch.randn(2000, 4) * torch.tensor([3.0, 2.0, 0.5, 0.1])
    model = Autoencoder(Space.continuous((4,)), Autoencoder.Config(latent=2))
    model.encoder, model.decoder = nn.Linear(4, 2), nn.Linear(2, 4)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(600):
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()
    spectrum = torch.linalg.eigvalsh(x.T.cov(correction=0))
    assert abs(model.loss(x).mean().item() - 0.5 * spectrum[:2].sum().item()) < 0.01


def followed(model: Autoencoder, x: torch.Tensor) -> None:
    """A step of training, of which only the moments are looked at."""
    model.after_step(*model.loss_and_outputs(x)[1])


def test_samples_are_decoded_from_the_codes_moments() -> None:
    model = Autoencoder(Space.continuous((2,)), Autoencoder.Config(latent=2))
    model.encoder, model.decoder = nn.Identity(), nn.Identity()
    x = torch.randn(5000, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]) + torch.tensor([2.0, -1.0])
    model.train()
    for rows in torch.randint(5000, (600, 100)):
        followed(model, x[rows])
    drawn = model.sample(5000, seed=0)
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.15
    assert (drawn.T.cov() - x.T.cov()).abs().max() < 0.25


def test_the_codes_moments_move_by_a_fiftieth_of_each_batch() -> None:
    """From 0 and I. Kills: a variance about another mean, a sum for a mean."""
    model = Autoencoder(Space.continuous((3,)), Autoencoder.Config(latent=3))
    model.encoder, model.decoder = nn.Identity(), nn.Identity()
    mean, covariance = torch.zeros(3), torch.eye(3)
    assert torch.equal(model.mean, mean)
    assert torch.equal(model.covariance, covariance)
    model.train()
    for _ in range(3):
        z = torch.randn(5, 3) + 2
        followed(model, z)
        covariance = 0.98 * covariance + 0.02 * sum(torch.outer(row - mean, row - mean) for row in z) / 5
        mean = 0.98 * mean + 0.02 * z.mean(0)
    assert torch.allclose(model.mean, mean, atol=1e-6)
    assert torch.allclose(model.covariance, covariance, atol=1e-6)


def test_the_loss_is_a_cross_entropy_or_half_the_squared_error_on_the_scaled_axis() -> None:
    x = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)
    binary = Autoencoder(Space.binary((2,)), Autoencoder.Config(latent=2)).eval()
    logits = binary.decoder(binary.encoder(2.0 * x - 1))
    expected = binary_cross_entropy_with_logits(logits, x.float(), reduction="none").sum(1)
    assert torch.allclose(binary.loss(x), expected, atol=1e-6)
    assert torch.equal(binary.decode(binary.encode(x)), (logits > 0).to(torch.uint8))
    levels = Autoencoder(Space.levels((2,), 256), Autoencoder.Config(latent=2)).eval()
    x = torch.tensor([[3, 250], [128, 1]], dtype=torch.uint8)
    z = x / 127.5 - 1
    outputs = levels.decoder(levels.encoder(z))
    assert torch.allclose(levels.loss(x), 0.5 * (outputs - z).square().sum(1), atol=1e-6)
    assert torch.equal(levels.decode(levels.encode(x)), ((outputs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))


def test_the_layers_are_as_many_and_as_wide_as_the_settings_say() -> None:
    model = Autoencoder(Space.continuous((7,)), Autoencoder.Config(latent=2, hidden=5, layers=3))
    for network, widths in ((model.encoder, [7, 5, 5, 5, 2]), (model.decoder, [2, 5, 5, 5, 7])):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths


def test_codes_that_are_all_alike_are_sampled_too() -> None:
    """Kills: a ridge that is taken away."""
    model = Autoencoder(Space.continuous((3,)), Autoencoder.Config(latent=3))
    model.decoder = nn.Identity()
    model.mean.fill_(2.0)
    model.covariance.zero_()
    assert torch.allclose(model.sample(50, seed=0), torch.full((50, 3), 2.0), atol=6e-3)  # five times the root of 1e-6
