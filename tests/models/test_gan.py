"""The game's losses against the paper's, and who learns from which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dgm.models.gan.gan import GAN
from dgm.space import Space


def game() -> GAN:
    gan = GAN(Space.continuous((1,)), GAN.Config(latent=1))
    gan.generator, gan.discriminator = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    return gan


def test_losses_are_the_papers() -> None:
    gan = game()
    x = torch.randn(7, 1)
    torch.manual_seed(3)
    (_, discriminator), (_, generator) = gan.losses(x)
    torch.manual_seed(3)
    fake = gan.generator(torch.randn(7, 1))
    d_real, d_fake = gan.discriminator(x).sigmoid(), gan.discriminator(fake).sigmoid()
    assert torch.allclose(discriminator, -d_real.log() - (1 - d_fake).log(), atol=1e-5)
    assert torch.allclose(generator, -d_fake.log(), atol=1e-5)


def test_the_discriminators_loss_does_not_reach_the_generator() -> None:
    gan = game()
    (_, discriminator), (_, generator) = gan.losses(torch.randn(4, 1))
    discriminator.sum().backward()
    assert gan.generator.weight.grad is None
    generator.sum().backward()
    assert gan.generator.weight.grad is not None


def test_the_best_discriminator_is_the_ratio_of_densities() -> None:
    """Against N(1, 1) a generator of N(-1, 1): log D / (1 - D) = log p / q = 2 x (the paper's proposition 1)."""
    gan = game()

    class Shifted(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z - 1

    gan.generator = Shifted()
    optimiser = torch.optim.Adam(gan.discriminator.parameters(), lr=0.05)
    for _ in range(400):
        _, loss = next(iter(gan.losses(torch.randn(2000, 1) + 1)))
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    layer = gan.discriminator[0]
    assert layer.weight.item() == pytest.approx(2, abs=0.15)
    assert layer.bias.item() == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    space = Space.levels(shape, 256)
    gan = GAN(space, GAN.Config(width=8))
    x = space.check(gan.sample(3, seed=0))
    assert x.float().std() > 1
    assert [loss.shape for _, loss in gan.losses(x)] == [(3,), (3,)]
