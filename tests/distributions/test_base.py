"""Base distributions against torch.distributions and integrals; samples against the density."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily
from torch.distributions import Normal as TorchNormal

from dgm.contracts import perturbed
from dgm.distributions.base import BASES, Mixture, Normal, Resampled, base, log_one_minus_exp, normal_points
from dgm.errors import UnknownName
from dgm.seeds import Streams


def line(n: int = 4000, half: float = 9.0) -> tuple[Tensor, float]:
    """Midpoints of a grid on the real line, (n, 1), and the distance of two."""
    step = 2 * half / n
    return (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) * step - half, step


def test_the_normal_is_torchs() -> None:
    z = torch.randn(5, 2, 3)
    torch.testing.assert_close(Normal((2, 3)).log_prob(z), TorchNormal(0, 1).log_prob(z).flatten(1).sum(1))


def test_the_mixture_is_torchs() -> None:
    """Kills: the log-scales' sign or sum, weights that are not normalised, means of another component."""
    mixture = perturbed(Mixture((2, 3), 4)).double()
    with torch.no_grad():
        mixture.logits.add_(torch.randn(4))
    parts = Independent(TorchNormal(mixture.mu, mixture.log_sigma.exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=mixture.logits), parts)
    z = torch.randn(7, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(z), expected.log_prob(z.flatten(1)))


def bent(attempts: int) -> Resampled:
    """A base on the line that accepts one side far more often."""
    torch.manual_seed(0)
    resampled = Resampled((1,), attempts, hidden=8).double().eval()
    with torch.no_grad():
        resampled.network[0].weight.mul_(4)
        resampled.network[-1].weight.mul_(8)
        resampled.network[-1].bias.sub_(1)
    return resampled


@pytest.mark.parametrize("attempts", [1, 2, 5, 100])
def test_the_resampled_normal_is_the_density_of_what_is_accepted(attempts: int) -> None:
    """p = N sum_{t<T} (1 - Z)^(t-1) a + N (1 - Z)^(T-1), summed attempt by attempt, with Z by a sum over a grid.

    Kills: T for T - 1, alpha for 1 - alpha, a over Z the other way round, the last attempt left out.
    """
    resampled = bent(attempts)
    z, step = line()
    normal, a = TorchNormal(0, 1).log_prob(z[:, 0]).exp(), resampled.log_acceptance(z).exp()
    accepted = (normal * a).sum() * step
    assert 0.1 < accepted.item() < 0.9
    expected = normal * (1 - accepted) ** (attempts - 1)
    for t in range(attempts - 1):
        expected = expected + normal * a * (1 - accepted) ** t
    assert resampled.log_z().exp().item() == pytest.approx(accepted.item(), rel=1e-4)  # of 16,384 quasi-random points
    found = resampled.log_prob(z).exp()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-12)
    assert float(found.detach().sum() * step) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("name", "attempts"), [("normal", 0), ("mixture", 0), ("resampled", 2), ("resampled", 100)])
def test_samples_follow_the_density(name: str, attempts: int) -> None:
    """The largest distance of the two distribution functions is below 2 / sqrt(n), Kolmogorov's p = 0.0007."""
    made = bent(attempts) if attempts else perturbed(base(name, (1,))).double()
    if isinstance(made, Mixture):
        made.log_sigma.data = torch.linspace(-4, 1, 16).double()[:, None]  # far from 1, where sigma is its square
    n = 4000
    with torch.no_grad():
        x = made.sample(Streams(0, range(n)))[:, 0].double().sort().values
        z, step = line()
        cumulative = (made.log_prob(z).exp() * step).cumsum(0)
    below = torch.searchsorted(z[:, 0].contiguous(), x).clamp_max(len(z) - 1)
    assert (cumulative[below] - (torch.arange(n) + 0.5) / n).abs().max() < 2 / math.sqrt(n)


@pytest.mark.parametrize("name", BASES)
def test_a_sample_and_what_follows_it_depend_on_its_stream_alone(name: str) -> None:
    """Kills: draws of the accepted alone, which move the position of every stream of the batch."""
    made = perturbed(base(name, (3,)))
    together, alone = Streams(0, range(5)), Streams(0, [4])
    with torch.no_grad():
        torch.testing.assert_close(made.sample(together)[4:], made.sample(alone))
    assert torch.equal(together.normal((2,))[4:], alone.normal((2,)))


def test_the_normalisers_gradient_counts() -> None:
    """A constant a is the normal itself, so its logit has no gradient: that of Z cancels that of a(z)."""
    resampled = Resampled((2,), 100, hidden=4)
    for parameter in resampled.network[-1].parameters():
        torch.nn.init.zeros_(parameter)
    z = torch.randn(64, 2)
    log_p = resampled.log_prob(z)
    torch.testing.assert_close(log_p, Normal((2,)).log_prob(z))
    (gradient,) = torch.autograd.grad(log_p.sum(), resampled.network[-1].bias)
    assert gradient.abs().max() < 1e-3


def test_the_gradient_of_two_attempts_is_that_of_their_sum() -> None:
    """With T = 2, p = N (a + 1 - Z), with Z by a sum over a grid. Kills: a constant Z in any of its places."""
    resampled, x = bent(2), torch.tensor([[0.7], [-1.2]], dtype=torch.float64)
    z, step = line()
    normal = TorchNormal(0, 1).log_prob(z[:, 0]).exp()
    accepted = (normal * resampled.log_acceptance(z).exp()).sum() * step
    expected = (resampled.log_acceptance(x).exp() + 1 - accepted).log()
    parameters = list(resampled.parameters())
    for mine, other in zip(
        *(torch.autograd.grad(of.sum(), parameters) for of in (resampled.log_prob(x), expected)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-3)


def test_log_one_minus_exp_is_accurate_at_both_ends() -> None:
    log_p = torch.tensor([-1e-12, -0.5, -50.0], dtype=torch.float64)
    expected = [math.log(1e-12), math.log(1 - math.exp(-0.5)), -math.exp(-50)]
    assert log_one_minus_exp(log_p).tolist() == pytest.approx(expected, rel=1e-9)


def test_an_unknown_base_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean 'normal'"):
        base("normall", (2,))


def test_a_mixture_starts_at_normal_means_and_the_normaliser_is_drawn_anew_in_training() -> None:
    """Kills: means that are equal, the fixed points in training, fresh ones in evaluation, points off the quantiles."""
    mixture = Mixture((200,))
    means = mixture.mu.detach()
    assert float(means.std()) == pytest.approx(1, rel=5 / math.sqrt(2 * means.numel()))
    resampled = Resampled((3,))
    assert resampled.train().log_z() != resampled.log_z()
    assert resampled.eval().log_z() == resampled.log_z()
    points = normal_points(2)
    assert abs(float(points.mean())) < 1e-3
    assert float(points.std()) == pytest.approx(1, abs=1e-2)
    assert float(points.abs().max()) < 5.5  # none is at the quantile of 0
