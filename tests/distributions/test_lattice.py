"""The decoder of levels against the sum over all of them."""

from __future__ import annotations

import pytest
import torch

from dgm.distributions import lattice


@pytest.mark.parametrize("values", [2, 5, 256])
def test_it_is_bayes_rule_over_all_levels(values: int) -> None:
    """Of x near z and far from it, at the ends and beyond. Kills: 2 for half, alpha or a level's place left out."""
    gap, alpha = 2 / (values - 1), torch.tensor(0.8, dtype=torch.float64)
    sigma = 0.5 * gap * alpha
    levels = torch.arange(values)
    places = levels.double() * gap - 1
    z = alpha * torch.cat([torch.linspace(-1 - gap, 1 + gap, 41, dtype=torch.float64), places[:3] + 0.3 * gap])
    log_w = torch.stack([torch.distributions.Normal(alpha * place, sigma).log_prob(z) for place in places])
    expected = log_w - log_w.logsumexp(0)
    found = lattice.log_prob(levels[:, None].expand_as(expected), z.expand_as(expected), alpha, sigma, values)
    # what lies seven standard deviations from z is all that may be left out
    assert torch.allclose(found, expected, atol=1e-9)
