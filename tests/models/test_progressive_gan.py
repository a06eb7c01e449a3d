"""The schedule of progressive growing, the fade-in, and the parts of its networks against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

import dgm
from dgm.models.gan.progressive_gan import ProgressiveGAN
from dgm.networks.progressive import Equalised, pixel_norm, with_deviation
from dgm.space import Space

SPACE = Space.continuous((2, 16, 16))


def grown(to: float) -> ProgressiveGAN:
    torch.manual_seed(0)
    gan = ProgressiveGAN(SPACE, ProgressiveGAN.Config(latent=8, width=4, steps_per_stage=100))
    for network in (gan.generator.network, gan.discriminator.network):
        network.grown.fill_(to)
    return gan


def test_stages_are_trained_and_fade_in_in_turn() -> None:
    gan, seen = grown(0), []
    for _ in range(650):
        gan.after_step()
        seen.append(gan.generator.network.grown.item())
        assert gan.discriminator.network.grown.item() == seen[-1]
    at = {steps: seen[steps - 1] for steps in (50, 100, 125, 199, 200, 250, 300, 350, 400, 650)}
    assert at == pytest.approx(
        {50: 0, 100: 0, 125: 0.25, 199: 0.99, 200: 1, 250: 1, 300: 1, 350: 1.5, 400: 2, 650: 2}, abs=1e-6
    )


@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_a_stage_fades_in_between_the_images_before_and_after(alpha: float) -> None:
    """The image at 1 + alpha is the mean, weighted by alpha, of those at 2 and at 1 upsampled."""
    z = torch.randn(3, 8)
    images = {at: grown(at).generator(z) for at in (1.0, 1.0 + alpha, 2.0)}
    torch.testing.assert_close(images[1 + alpha], alpha * images[2.0] + (1 - alpha) * images[1.0])
    before = images[1.0]
    torch.testing.assert_close(before, interpolate(adaptive_avg_pool2d(before, (8, 8)), (16, 16)))  # of 8×8 pixels


def test_the_discriminator_fades_in_too_and_sees_the_mean_of_pixels() -> None:
    x = torch.randn(5, 2, 16, 16)
    values = {at: grown(at).discriminator(x) for at in (1.0, 1.001, 1.999, 2.0)}
    torch.testing.assert_close(values[1.0], values[1.001], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(values[2.0], values[1.999], rtol=1e-2, atol=1e-3)
    assert (values[1.0] - values[2.0]).abs().max() > 1e-2
    coarse = interpolate(adaptive_avg_pool2d(x, (8, 8)), (16, 16))
    torch.testing.assert_close(grown(1.0).discriminator(coarse), values[1.0])


def test_only_the_stages_that_are_there_have_a_gradient() -> None:
    gan = grown(1.0)
    gan.generator(torch.randn(2, 8)).sum().backward()
    network = gan.generator.network
    assert network.blocks[0][0].weight.grad is not None
    assert network.blocks[1][0].weight.grad is None
    assert network.images[0].weight.grad is None  # of a stage that has faded out


def test_weights_are_scaled_at_run_time() -> None:
    """Section 4.1: N(0, 1) times gain / sqrt(fan-in), so that the output has the variance gain²."""
    layer = Equalised(300, 400, 3, gain=1.5)
    x = torch.randn(1, 300, 12, 12)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.01)
    assert layer(x)[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1.5, rel=0.03)
    assert Equalised(50, 20).scale == pytest.approx(math.sqrt(2 / 50))


def test_features_have_unit_length_and_the_deviation_is_over_the_batch() -> None:
    x = torch.randn(6, 5, 3, 4)
    assert pixel_norm(x).square().mean(1) == pytest.approx(1)
    deviation = x.std(0, unbiased=False).mean()
    last = with_deviation(x)[:, 5]
    torch.testing.assert_close(last, deviation.expand(6, 3, 4))
    assert with_deviation(x[:1].expand(4, -1, -1, -1))[0, 5].max() == pytest.approx(0, abs=1e-3)


def test_training_goes_on_where_it_was(tmp_path: object) -> None:
    """The number of steps is in the weights: a trained model samples as it was grown."""
    digits = dgm.data.load("digits")
    gan = dgm.create("progressive_gan", digits.space, width=4, steps_per_stage=4)
    list(dgm.fit(gan, digits, steps=6, batch=16, precision="32-true"))
    again = dgm.create("progressive_gan", digits.space, width=4, steps_per_stage=4)
    again.load_state_dict(gan.state_dict())
    assert gan.generator.network.grown.item() == again.generator.network.grown.item() == 0.5
    assert int(gan.steps) == 6
    assert torch.equal(gan.sample(3, seed=0), again.eval().sample(3, seed=0))
