"""Causal maps of sequences: both inverses, what sees what; and TarFlow's noise and denoising in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgm.contracts import perturbed
from dgm.errors import BadInput
from dgm.models.flow.tarflow import TarFlow, patch_of
from dgm.seeds import streams
from dgm.space import Space
from dgm.transforms import CausalAffine, Patches

T, D = 6, 3


def causal(*, reverse: bool = False, condition: int = 0, gain: float = 10.0) -> CausalAffine:
    """A map whose scales and shifts are large."""
    torch.manual_seed(0)
    found = perturbed(CausalAffine((T, D), reverse=reverse, width=8, layers=2, heads=2, condition=condition)).double()
    with torch.no_grad():
        found.head.weight.mul_(gain)
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("condition", "gain"), [(0, 10.0), (4, 10.0), (0, 0.2)])  # of large changes and of small
def test_both_inverses_are_equal_and_invert(reverse: bool, condition: int, gain: float) -> None:
    """Kills: the cache's positions off by one, a condition of the first token alone, an iteration that stops early."""
    found, z = causal(reverse=reverse, condition=condition, gain=gain), torch.randn(5, T, D, dtype=torch.float64)
    c = torch.randn(5, condition, dtype=torch.float64) if condition else None
    x, ladj = found.inverse(z, c)
    found.fixed_point = True
    again, same = found.inverse(z, c)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-11)
    torch.testing.assert_close(same, ladj, rtol=0, atol=1e-11)
    with torch.no_grad():
        back, minus_ladj = found(x, c)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-11)
    torch.testing.assert_close(minus_ladj, -ladj, rtol=0, atol=1e-11)


def test_shifts_and_bounded_scales_are_the_heads_over_half_the_root_of_the_width() -> None:
    """mu = 2 a / width^(1/2) and alpha = 3 tanh(2 b / 3 width^(1/2)). Kills: outputs that grow with the width, another
    bound or another slope at 0.
    """
    found, h = causal(), 5 * torch.randn(4, T, 8, dtype=torch.float64)
    a, b = (h @ found.head.weight.mT + found.head.bias).mul(2 / math.sqrt(8)).split(D, -1)
    mu, alpha = found.read(h)
    torch.testing.assert_close(mu, a)
    torch.testing.assert_close(alpha, 3 - 6 / ((2 * b / 3).exp() + 1))
    assert alpha.abs().max() > 1


def test_k_iterations_give_the_first_k_vectors() -> None:
    """The fixed point is reached in T iterations at most: each makes one more vector right."""
    found, z = causal(), torch.randn(2, T, D, dtype=torch.float64)
    with torch.no_grad():
        x, states = found.inverse(z)[0], [z]
        for _ in range(T):
            mu, alpha = found.parameters_of(states[-1], None)
            states.append(z * alpha.exp() + mu)
    for k, state in enumerate(states):
        torch.testing.assert_close(state[:, :k], x[:, :k], rtol=0, atol=1e-11)
        assert k == T or (state[:, -1] - x[:, -1]).abs().max() > 1e-9


@pytest.mark.parametrize("reverse", [False, True])
def test_a_vector_sees_those_before_it_alone(reverse: bool) -> None:
    """dz_t / dx_s is 0 for s after t, and diagonal at s = t. Kills: a mask off by one, the order of one side alone."""
    found = causal(reverse=reverse)
    jacobian = torch.autograd.functional.jacobian(lambda v: found(v)[0][0], torch.randn(1, T, D).double())[:, :, 0]
    for t in range(T):
        for s in range(T):
            block = jacobian[t, :, s]
            if (s > t) != reverse and s != t:
                assert not block.any()
            elif s == t:
                assert torch.equal(block, block.diagonal().diag())
            else:
                assert block.abs().max() > 1e-6


def test_patches_are_squares_in_raster_order() -> None:
    patches, x = Patches((2, 4, 6), 2), torch.arange(48.0).view(1, 2, 4, 6)
    z, _ = patches(x)
    assert patches.sequence == (6, 8)
    assert z[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]
    assert torch.equal(patches.inverse(z)[0], x)
    assert Patches((5,), 4).sequence == (5, 1)


@pytest.mark.parametrize(("size", "patch"), [(28, 4), (32, 4), (8, 1), (10, 2), (7, 1), (3, 1)])
def test_the_default_patch(size: int, patch: int) -> None:
    assert patch_of((1, size, size), None) == patch


def test_maps_alternate_in_their_order() -> None:
    """Section 2.1. With one order for all, the first vector would be an affine map of z for ever."""
    maps = [part for part in TarFlow(Space.continuous((2,)), TarFlow.Config()).transform if hasattr(part, "reverse")]
    assert [part.reverse for part in maps] == [False, True, False, True]


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="patches of 3 do not divide"):
        TarFlow(Space.continuous((1, 8, 8)), TarFlow.Config(patch=3))
    with pytest.raises(BadInput, match="noise of training, which is 0"):
        TarFlow(Space.continuous((2,)), TarFlow.Config(denoise=True))


BOUNDED = Space.continuous((1, 2, 2), low=0.0, high=10.0)


def untrained(**settings: float | bool) -> TarFlow:
    """The identity, so that x scaled to [-1, 1] is standard normal."""
    torch.manual_seed(0)
    return TarFlow(BOUNDED, TarFlow.Config(width=8, layers=1, blocks=2, **settings)).eval()  # type: ignore[arg-type]


def test_denoising_is_tweedies_formula() -> None:
    """Of a standard normal the score is -x, so x becomes (1 - sigma²) x. Kills: the sign, sigma for its square, an
    earlier clamp.
    """
    plain, denoising = untrained(noise=0.5), untrained(noise=0.5, denoise=True)
    x, cleaned = (flow.sample(500, seed=0) for flow in (plain, denoising))
    z = plain.base.sample(streams(500, 0))
    expected = (5 + 5 * 0.75 * z).clamp(0, 10)
    torch.testing.assert_close(cleaned, expected)
    torch.testing.assert_close(x, (5 + 5 * z).clamp(0, 10))


def test_denoising_is_along_the_gradient_of_the_log_density() -> None:
    """By autodiff in units of the data. Kills: a score of the base alone, without that of the log-determinant."""
    space, scale = (
        Space.continuous((1, 2, 2), loc=(3.0,) * 4, scale=(2.0, 1.0, 0.5, 4.0)),
        torch.tensor([2.0, 1, 0.5, 4]),
    )
    plain, denoising = (
        TarFlow(space, TarFlow.Config(width=8, layers=1, blocks=2, noise=0.5, denoise=denoise)).double().eval()
        for denoise in (False, True)
    )
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.4)
    denoising.load_state_dict(plain.state_dict())
    x = plain.sample(20, seed=0).requires_grad_()
    (score,) = torch.autograd.grad(plain.log_prob(x).sum(), x)
    expected = x.detach() + (0.5 * scale.view(1, 2, 2)) ** 2 * score
    torch.testing.assert_close(denoising.sample(20, seed=0), expected)


def test_noise_of_training_is_of_the_scaled_x() -> None:
    """E[-log p(x + sigma e)] of a standard normal is -log p(x) + D sigma² / 2; its standard error is stated."""
    noisy, x = untrained(noise=0.5), torch.full((20_000, 1, 2, 2), 6.0)
    extra: Tensor = (noisy.loss(x) + noisy.log_prob(x)).detach()
    error = float(extra.std()) / math.sqrt(len(x))
    assert extra.mean().item() == pytest.approx(4 * 0.25 / 2, abs=4 * error)
