"""Discretised logistics modulo K: by turns summed one by one, by samples, and their derivative across the wrap."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgm.distributions.wrapped_logistics import SHARE, WrappedLogistics
from dgm.space import Space


def outputs(log_s: float, mu: float = -0.9) -> Tensor:
    """Of a mixture of two, the second with a location of its own."""
    return torch.tensor([0.3, -0.5, mu, 0.4, log_s, -1.0], dtype=torch.float64)


@pytest.mark.parametrize("values", [3, 17, 256])
@pytest.mark.parametrize("log_s", [-6.0, 0.0, 4.0])
def test_it_is_the_sum_over_three_turns_and_sums_to_one(values: int, log_s: float) -> None:
    """Kills: a half cell left out, the normaliser's ends, another turn."""
    wrapped, given = WrappedLogistics(Space.levels((1,), values), 2), outputs(log_s)
    x = torch.arange(values, dtype=torch.float64)
    found = wrapped.log_prob(given.expand(values, 6), x).exp()
    assert found.sum().item() == pytest.approx(1, abs=1e-10)
    expected, pi, half = torch.zeros(values, dtype=torch.float64), given[:2].softmax(0), (values - 1) / 2
    for m in (0, 1):
        mu, s = (given[2 + m] + 1) * half, given[4 + m].exp() * half * SHARE
        ends = torch.arange(-values, 2 * values, dtype=torch.float64)[:, None] + torch.tensor([-0.5, 0.5]).double()
        cells = ((ends - mu) / s).sigmoid().diff()[:, 0]
        expected += pi[m] * cells.view(3, values).sum(0) / cells.sum()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("log_s", [-2.0, 1.0, 5.0])
def test_samples_have_its_frequencies(log_s: float) -> None:
    """Chi-square on 16 degrees of freedom, below 50 but in one of 40,000 seeds."""
    wrapped, given, n = WrappedLogistics(Space.levels((1,), 17), 2), outputs(log_s), 20_000
    u = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    seen = wrapped.sample(given.expand(n, 6), u).long().bincount(minlength=17).double()
    expected = n * wrapped.log_prob(given.expand(17, 6), torch.arange(17)).exp()
    assert ((seen - expected).square() / expected.clamp_min(1)).sum() < 50


def test_its_derivative_points_to_the_mode_across_the_wrap() -> None:
    """K - 1 is next to 0: with a mode at 0 the density rises from K - 1 upwards."""
    wrapped = WrappedLogistics(Space.levels((1,), 17), 1)
    x = torch.tensor([16.0, 1.0], dtype=torch.float64, requires_grad=True)
    log_p = wrapped.log_prob(torch.tensor([0.0, -1.0, math.log(2)], dtype=torch.float64).expand(2, 3), x)
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    assert slope[0] > 0 > slope[1]
    torch.testing.assert_close(log_p[0], log_p[1], rtol=1e-4, atol=0)  # three turns are not quite symmetric


@pytest.mark.parametrize("components", [1, 2, 5])
def test_a_fit_is_like_the_batch(components: int) -> None:
    """Of a uniform dimension, a constant one, and one with two peaks, which the broad component alone does not have;
    a value that the batch does not have is rare and not impossible. Kills: fits in other units, at the other end.
    """
    torch.manual_seed(0)
    k = 256
    uniform, peaks = torch.arange(k), torch.cat([torch.full((128,), 40), torch.full((128,), 200)])
    x = torch.stack([uniform, torch.full((k,), 7), peaks], 1)
    distribution = WrappedLogistics(Space.levels((3,), k), components)
    outputs = distribution.fit(x)
    assert outputs.shape == (3, distribution.outputs)
    nats = -distribution.log_prob(outputs, x.float()).mean(0)
    assert nats[0] < math.log(k) + 0.2
    assert nats[1] < (3.5 if components == 1 else 1)
    assert nats[2] < (math.log(k) + 0.4 if components < 5 else 3)
    assert distribution.log_prob(outputs[1], torch.tensor(7.0 + 60)) > -15


def test_a_fit_of_one_component_has_the_moments_of_the_batch() -> None:
    """The standard deviation of a logistic distribution is pi / sqrt(3) of its scale."""
    x = 128 + (17 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))).round()
    distribution = WrappedLogistics(Space.levels((1,), 256))
    p = distribution.log_prob(distribution.fit(x).expand(256, 1, 3), torch.arange(256.0)[:, None]).double().exp()[:, 0]
    mean = (p * torch.arange(256)).sum()
    assert abs(mean - x.mean()) < 0.05
    spread = (p * (torch.arange(256) - mean).square()).sum().sqrt()
    torch.testing.assert_close(spread, x.double().std(), rtol=0.01, atol=0)
