"""The game's losses against the paper's, and who learns from which."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import dgm
from dgm.errors import BadInput, Unsupported
from dgm.models.gan.gan import GAN
from dgm.space import Space


def game() -> GAN:
    gan = GAN(Space.continuous((1,)), GAN.Config(latent=1))
    gan.generator.network = nn.Linear(1, 1)
    gan.discriminator.network, gan.discriminator.last = nn.Identity(), nn.Linear(1, 1)
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
    assert gan.generator.network.weight.grad is None
    generator.sum().backward()
    assert gan.generator.network.weight.grad is not None


def test_the_best_discriminator_is_the_ratio_of_densities() -> None:
    """Against N(1, 1) a generator of N(-1, 1): log D / (1 - D) = log p / q = 2 x (the paper's proposition 1)."""
    gan = game()

    class Shifted(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z - 1

    gan.generator.network = Shifted()
    optimiser = torch.optim.Adam(gan.discriminator.parameters(), lr=0.05)
    for _ in range(400):
        _, loss = next(iter(gan.losses(torch.randn(2000, 1) + 1)))
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    layer = gan.discriminator.last
    assert layer.weight.item() == pytest.approx(2, abs=0.15)
    assert layer.bias.item() == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    space = Space.levels(shape, 256)
    gan = GAN(space, GAN.Config(width=8))
    x = space.check(gan.sample(3, seed=0))
    assert (x[0] != x[1]).any()
    assert [loss.shape for _, loss in gan.losses(x)] == [(3,), (3,)]


def test_real_levels_get_centred_noise_of_one_levels_width() -> None:
    """Uniform on the cell around its level. Kills: noise on [0, 1), of another width, on what is continuous too."""
    n, space = 20_000, Space.levels((1,), 5)
    gan = GAN(space, GAN.Config())
    z = gan.lifted(torch.full((n, 1), 3, dtype=torch.uint8))
    assert stats.kstest(z[:, 0].numpy(), stats.uniform(0.25, 0.5).cdf).pvalue > 1e-6  # levels lie at -1, -0.5 ... 1
    for level, start in [(0, -1.0), (4, 0.75)]:  # an edge level's cell is the half inside; clamped, half of it is at ±1
        z = gan.lifted(torch.full((n, 1), level, dtype=torch.uint8))
        assert stats.kstest(z[:, 0].numpy(), stats.uniform(start, 0.25).cdf).pvalue > 1e-6
    x = torch.randn(5, 2)
    assert torch.equal(GAN(Space.continuous((2,)), GAN.Config()).lifted(x), x)


class Kept(nn.Module):
    """The identity, which keeps what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return x


@pytest.mark.parametrize("shape", [(4,), (2, 3, 5)])
def test_labels_are_planes_behind_x_and_numbers_behind_z(shape: tuple[int, ...]) -> None:
    gan = GAN(Space.continuous(shape), GAN.Config(latent=4, width=4), Space.categories(3))
    gan.generator.network, gan.discriminator.network = Kept(), Kept()
    gan.discriminator.last = nn.Flatten()
    z, y, x = torch.randn(2, 4), torch.tensor([2, 0]), torch.randn(2, *shape)
    gan.generated(z, y)
    assert torch.equal(gan.generator.network.given, torch.cat([z, torch.tensor([[0, 0, 1.0], [1.0, 0, 0]])], 1))
    gan.judged(x, y)
    channels = shape[0]
    assert torch.equal(gan.discriminator.network.given[:, :channels], x)
    for row, label in zip(gan.discriminator.network.given[:, channels:], y.tolist(), strict=True):
        for k, plane in enumerate(row):
            assert (plane == (k == label)).all()


def test_what_is_bounded_is_squashed_and_what_is_not_is_not() -> None:
    x = torch.tensor([[0.3, -5.0]])
    for space, squashed in (
        (Space.continuous((2,)), False),
        (Space.continuous((2,), low=0.0, high=2.0), True),
        (Space.levels((2,), 3), True),
    ):
        gan = GAN(space, GAN.Config(latent=2))
        gan.generator.network = Kept()
        assert torch.equal(gan.generated(x, None), x.tanh() if squashed else x)


def test_a_sample_is_the_generator_of_normal_noise_in_the_datas_units() -> None:
    gan = GAN(Space.continuous((2,), loc=(5.0, 0.0), scale=(2.0, 0.5)), GAN.Config(latent=2))
    gan.generator.network = Kept()
    x = gan.sample(4000, seed=0)
    assert ((x.mean(0) - torch.tensor([5.0, 0.0])).abs() < 5 * torch.tensor([2.0, 0.5]) / 4000**0.5).all()
    assert x.std(0).tolist() == pytest.approx([2.0, 0.5], rel=5 / 8000**0.5)


def test_labels_that_are_drawn_are_independent_of_z() -> None:
    """Kills: a label of the same random numbers as z."""
    gan = GAN(Space.continuous((6,)), GAN.Config(latent=4, width=4), Space.categories(2))
    gan.generator.network = Kept()
    z, labels = gan.sample(4000, seed=0).split([4, 2], 1)
    for of_z in (z, z.square()):
        correlations = torch.cat([of_z, labels[:, :1]], 1).T.corrcoef()[4, :4]
        assert correlations.abs().max() < 5 / 4000**0.5


def test_integers_with_a_scale_of_their_own_have_no_bounds() -> None:
    """They are standardised. Kills: a tanh that holds them within one scale, a reflection at it."""
    gan = GAN(Space.levels((2,), 100, loc=(50.0, 50.0), scale=(5.0, 5.0)), GAN.Config(latent=2))
    gan.generator.network = Kept()
    z = torch.tensor([[3.0, -2.0]])
    torch.testing.assert_close(gan.generated(z, None), z)
    x = torch.tensor([[65, 40]], dtype=torch.uint8)
    assert (gan.lifted(x) - z).abs().max() <= 0.1 + 1e-6  # of a cell of 1 / 5


@pytest.mark.parametrize("truncation", [0.5, 2.0])
def test_a_truncated_z_is_normal_given_its_bound(truncation: float) -> None:
    """Kills: a uniform z, a z that is clamped, one scaled by the bound."""
    gan = GAN(Space.continuous((2,)), GAN.Config(latent=2))
    gan.generator.network = Kept()
    z = dgm.sample(gan, 4000, seed=0, truncation=truncation)
    truncated = stats.truncnorm(-truncation, truncation)
    assert z.abs().max() <= truncation
    assert stats.kstest(z.flatten().numpy(), truncated.cdf).pvalue > 1e-4
    assert torch.equal(dgm.sample(gan, 4000, seed=0, truncation=truncation)[:10], z[:10])
    with pytest.raises(Unsupported, match="no z to truncate"):
        dgm.sample(dgm.create("realnvp", gan.space, layers=2), 2, truncation=1.0)
    with pytest.raises(BadInput, match="must be above 0"):
        dgm.sample(gan, 2, truncation=0.0)
