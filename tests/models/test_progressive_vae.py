"""The progressive VAE: its schedule, what a level that is not learnt yet does, and its bound against an integral."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dgm import contracts
from dgm.models.vae.base import gaussian_kl
from dgm.registry import create
from dgm.space import Space

BITS = Space.binary((1, 2, 2))


def small(steps: int, **settings: Any) -> Any:
    model: Any = create("progressive_vae", BITS, levels=2, latent=1, hidden=6, stage=10, fade=4, **settings)
    model = contracts.perturbed(model.double())
    model.trained.fill_(steps)
    return model


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, [1, 0, 0]), (10, [1, 0, 0]), (13, [1, 0.75, 0]), (19, [1, 1, 0]), (22, [1, 1, 0.5]), (99, [1, 1, 1])],
)
def test_levels_are_faded_in_from_the_highest_down(steps: int, expected: list[float]) -> None:
    model: Any = create("progressive_vae", BITS, levels=3, stage=10, fade=4)
    for _ in range(steps):
        model.after_step()
    assert model.alpha.tolist() == pytest.approx(expected)


def test_a_level_that_is_not_learnt_yet_changes_nothing_and_knows_nothing() -> None:
    model, x = small(5), contracts.all_examples(BITS)
    z = torch.randn(16, 2).double()
    changed = z + torch.tensor([0.0, 1.0])
    assert torch.equal(model.outputs(z, None), model.outputs(changed, None))
    mu, log_sigma = model.posterior(x)
    assert (mu[:, 1] == mu[0, 1]).all()
    assert (log_sigma[:, 1] == log_sigma[0, 1]).all()
    assert mu[:, 0].std() > 0
    later = small(99)
    assert not torch.equal(later.outputs(z, None), later.outputs(changed, None))
    assert later.posterior(x)[0][:, 1].std() > 0


def test_a_level_that_is_faded_in_halfway_reads_half_of_its_features() -> None:
    """mu(alpha h) and log sigma(alpha h), affine in h. Kills: alpha times the whole moments, with their biases."""
    model, x, found = small(5), contracts.all_examples(BITS), {}
    for steps in (5, 12, 99):  # alpha 0, 1/2 and 1
        model.trained.fill_(steps)
        found[steps] = torch.stack(model.posterior(x), -1)[:, 1]
    torch.testing.assert_close(found[5], model.biases[1].expand(16, 2))
    torch.testing.assert_close(found[12], (found[5] + found[99]) / 2)


def test_the_signal_of_the_highest_level_does_not_shrink_in_the_layers() -> None:
    """Its code moves the outputs by 0.4 to 0.6 of a variance. Kills: PyTorch's initialisation, with 0.000002."""
    model: Any = create("progressive_vae", Space.levels((1, 8, 8), 17))
    z = torch.randn(500, 9)
    assert 0.1 < float(model.outputs(z, None)[..., 1].detach().var(0).mean()) < 2


@pytest.mark.parametrize(("steps", "weights"), [(5, [3.0, 0.2]), (12, [3.0, 3.0])])
def test_the_loss_weighs_each_levels_divergence(steps: int, weights: list[float]) -> None:
    """Kills: beta and gamma for one another, the divergence of another level."""
    model, x = small(steps, beta=3.0, gamma=0.2), contracts.all_examples(BITS)
    kl = gaussian_kl(*model.posterior(x))
    torch.manual_seed(0)
    loss = model.loss(x)
    torch.manual_seed(0)
    bound = model.elbo(x)
    torch.testing.assert_close(loss, -bound + kl @ (torch.tensor(weights).double() - 1))


@pytest.mark.parametrize("steps", [5, 12, 99])
def test_weights_average_to_the_integral_over_all_levels(steps: int) -> None:
    """p(x) by a rule of 61² points, at any alpha. Kills: a code that is scaled twice, another level."""
    model, x = small(steps), contracts.all_examples(BITS)
    line = torch.linspace(-6, 6, 61, dtype=torch.float64)
    z = torch.cartesian_prod(line, line)
    density = torch.exp(-0.5 * z.square().sum(1)) / (2 * math.pi) * (line[1] - line[0]) ** 2
    with torch.no_grad():
        p = torch.stack([(model.likelihood(one.expand(len(z), 1, 2, 2), z).exp() * density).sum() for one in x])
        draws = model.log_weight(x.repeat(4000, 1, 1, 1)).view(4000, 16).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    error = draws.std(0) / math.sqrt(4000)
    assert ((draws.mean(0) - p).abs() < 5 * error).all()
    assert (error < 0.2 * p).all()
