"""The autoencoder finds the principal subspace where it can only be linear, and samples its codes' Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dgm.errors import BadInput
from dgm.models.autoencoder.autoencoder import Autoencoder
from dgm.models.autoencoder.sparse_ae import SparseAE
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


def test_codes_of_half_precision_move_the_moments_too() -> None:
    """In mixed precision the encoder gives bfloat16. Kills: the codes' dtype left as it is."""
    model = Autoencoder(Space.continuous((3,)), Autoencoder.Config(latent=3))
    model.after_step(torch.ones(4, 3, dtype=torch.bfloat16))
    assert torch.allclose(model.mean, torch.full((3,), 0.02))


def test_the_papers_network() -> None:
    """784-1000-500-250-2 and back, figure 3 of Hinton and Salakhutdinov."""
    config = Autoencoder.Config(latent=2, widths=(1000, 500, 250))
    model = Autoencoder(Space.levels((1, 28, 28), 256), config)
    for network, widths in ((model.encoder, [784, 1000, 500, 250, 2]), (model.decoder, [2, 250, 500, 1000, 784])):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths


def test_the_convolutional_one_commutes_with_a_shift_of_the_image() -> None:
    """Up to its last layers: a shift by 4 pixels is one by 1 where the sides were halved twice, in both networks.

    Kills: a dense network, pixels in another order, the decoder's sizes out of order.
    """
    config = Autoencoder.Config(latent=3, network="conv", channels=2)
    model = Autoencoder(Space.levels((2, 16, 16), 9), config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)  # so that padding is like the rest of an empty image
    x = torch.zeros(1, 2, 16, 16)
    x[:, :, 4:8, 4:8] = torch.randn(2, 4, 4)
    model.encoder.last = nn.Identity()  # type: ignore[assignment]
    here, there = (model.encoder(image.flatten(1)).unflatten(1, (8, 4, 4)) for image in (x, x.roll(4, 3)))
    assert torch.allclose(here.roll(1, 3), there, atol=1e-7)
    assert (here - there).abs().max() > 1e-3
    h, drawn = torch.zeros(1, 8, 4, 4), []
    h[:, :, 1, 1] = torch.randn(8)
    for start in (h, h.roll(1, 3)):
        model.decoder.first = Always(start.flatten(1))  # type: ignore[assignment]
        drawn.append(model.decoder(torch.zeros(1, 3)).unflatten(1, (2, 16, 16)))
    assert torch.allclose(drawn[0].roll(4, 3), drawn[1], atol=1e-7)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


class Always(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.value


def test_a_convolutional_one_of_rows_is_refused() -> None:
    with pytest.raises(BadInput, match="needs images"):
        Autoencoder(Space.continuous((4,)), Autoencoder.Config(network="conv"))


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


def test_a_reconstruction_has_no_variance_and_codes_carry_no_gradient() -> None:
    model = Autoencoder(Space.continuous((3,)), Autoencoder.Config(latent=2))
    z = torch.randn(4, 2)
    mean, variance = model.moments_given_code(z)
    assert torch.equal(mean, model.decoder(z))
    assert not variance.any()
    _, (codes,) = model.loss_and_outputs(torch.randn(4, 3))
    assert not codes.requires_grad


def test_sampled_codes_lie_where_the_encoders_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logistic code is in [0, 1], and the nearest such code is decoded; a linear one is anywhere."""
    seen: list[torch.Tensor] = []
    for model, bounded in (
        (SparseAE(Space.continuous((3,)), SparseAE.Config(latent=2)), True),
        (Autoencoder(Space.continuous((3,)), Autoencoder.Config(latent=2)), False),
    ):
        monkeypatch.setattr(model, "decode", lambda z: seen.append(z) or z)  # type: ignore[func-returns-value]
        model.sample(200, seed=0)
        assert (float(seen[-1].min()) == 0 and float(seen[-1].max()) == 1) == bounded
        assert seen[-1].unique().numel() > 100
