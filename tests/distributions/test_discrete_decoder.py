"""The decoder of levels seen through noise, at any noise: Bayes' rule over all levels, written out."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from dgm.distributions import discrete_decoder


@pytest.mark.parametrize("values", [2, 3, 17, 256])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("gaps", [0.05, 0.3, 1.0, 2.0, 3.2, 6.4, 40.0, 1000.0])
def test_decoder_is_bayes_over_all_levels(values: int, alpha: float, gaps: float) -> None:
    """Noise from a twentieth of the gap between two levels to far more than all levels span.

    Kills: a sign, a level's place, a window that leaves out what counts, levels that do not exist.
    """
    x = torch.arange(values)[:, None]
    a, sigma = torch.tensor(alpha).double(), torch.tensor(alpha * gaps * 2 / (values - 1)).double()
    means = a * (2 * x.double() / (values - 1) - 1)
    z = (means + sigma * torch.randn(values, 3, dtype=torch.float64)).flatten()
    found = discrete_decoder.log_prob(x.expand(values, len(z)), z.expand(values, len(z)), a, sigma, values)
    expected = Normal(means, sigma).log_prob(z).log_softmax(0)
    # levels beyond six standard deviations are left out of the sum: 2e-9 of the mass on each side
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-9)


def test_a_level_that_the_noise_can_hardly_have_made_keeps_its_log_probability() -> None:
    one, sigma = torch.ones(()).double(), torch.tensor(2 / 255 / 4).double()
    z = torch.tensor([-1.0], dtype=torch.float64)
    found = discrete_decoder.log_prob(torch.tensor([40]), z, one, sigma, 256)
    assert found.item() == pytest.approx(-((40 * 4) ** 2) / 2, rel=1e-3)


def test_gradients_of_the_noise_are_those_of_bayes_rule() -> None:
    """A learnt noise level descends by them."""
    x, z = torch.arange(256), torch.linspace(-1.1, 1.1, 256, dtype=torch.float64)
    log_sigma = torch.tensor(-4.0, dtype=torch.float64, requires_grad=True)
    found = discrete_decoder.log_prob(x, z, torch.ones(()).double(), log_sigma.exp(), 256).sum()
    means = 2 * torch.arange(256).double()[:, None] / 255 - 1
    expected = Normal(means, log_sigma.exp()).log_prob(z).log_softmax(0)[x, torch.arange(256)].sum()
    (mine,), (theirs,) = torch.autograd.grad(found, log_sigma), torch.autograd.grad(expected, log_sigma)
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
