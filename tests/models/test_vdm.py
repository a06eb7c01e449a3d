"""VDM where the best denoiser and the exact likelihood are known: data N(m, s²)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from dgm import contracts
from dgm.models.diffusion.vdm import VDM, LearntVP, frequencies
from dgm.processes.gaussian import over
from dgm.space import Space

M, S = 0.3, 0.6


def model(space: Space | None = None, **config: object) -> VDM:
    return VDM(space or Space.continuous((1,)), VDM.Config(width=8, **config)).double()  # type: ignore[arg-type]


def optimal(mine: VDM) -> None:
    def noise(z_t: Tensor, gamma: Tensor, y: Tensor | None) -> Tensor:
        alpha, sigma = (over(sign.sigmoid().sqrt(), z_t) for sign in (-gamma, gamma))
        return sigma * (z_t - alpha * M) / (alpha**2 * S**2 + sigma**2)

    mine.noise = noise  # type: ignore[method-assign]


def test_gamma_rises_from_end_to_end_and_its_derivative_is_autodiffs() -> None:
    torch.manual_seed(0)
    path = LearntVP(-9.0, 4.0).double()
    with torch.no_grad():
        path.v.normal_()
    t = torch.linspace(0, 1, 101, dtype=torch.float64).requires_grad_()
    gamma, gamma_dot = path.stretched(path.between(t))
    assert (gamma[0].item(), gamma[-1].item()) == (pytest.approx(-9), pytest.approx(4))
    assert (gamma.diff() > 0).all()
    torch.testing.assert_close(torch.autograd.grad(gamma.sum(), t)[0], gamma_dot)
    assert gamma.diff().std() > 1e-3  # it is not the straight line that it starts from
    for value, slope in ((path.alpha(t), path.alpha_dot(t)), (path.sigma(t), path.sigma_dot(t))):
        torch.testing.assert_close(torch.autograd.grad(value.sum(), t, retain_graph=True)[0], slope)
    torch.testing.assert_close(path.snr(t), (-gamma).exp())
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t))


def bound(x: Tensor, first: float, last: float) -> Tensor:
    """The bound of the best denoiser, from the Gaussian integrals term by term.

    E||eps - eps_hat||² = k² (alpha² (x - M)² ... ) at each gamma, integrated over gamma by Simpson's rule.
    """
    sigmoid = torch.sigmoid
    gamma = torch.linspace(first, last, 20_001, dtype=torch.float64)
    alpha2, sigma2 = sigmoid(-gamma), sigmoid(gamma)
    v = alpha2 * S**2 + sigma2
    # eps - eps_hat = eps (1 - sigma² / v) - sigma alpha (x - M) / v
    squares = (1 - sigma2 / v) ** 2 + sigma2 * alpha2 * (x[:, None] - M) ** 2 / v**2
    diffusion = torch.trapezoid(squares, gamma) / 2
    a2, s2 = sigmoid(torch.tensor(-last).double()), sigmoid(torch.tensor(last).double())
    prior = (a2 * x**2 + s2 - 1 - s2.log()) / 2
    reconstruction = 0.5 * math.log(2 * math.pi) + 0.5 * first + 0.5
    return -(prior + reconstruction + diffusion)


@pytest.mark.parametrize(("first", "last"), [(-6.0, 2.0), (-13.0, 5.0)])
def test_bound_is_the_closed_form_whatever_lies_between_the_ends(first: float, last: float) -> None:
    """Kills: gamma' or its half left out, a sign in the prior, alpha for sigma in the reconstruction."""
    torch.manual_seed(0)
    mine = model()
    optimal(mine)
    with torch.no_grad():
        mine.path.ends.copy_(torch.tensor([first, last]))
        mine.path.v.normal_()
    x = torch.tensor([[-0.9], [0.4]], dtype=torch.float64)
    for row, expected in zip(x, bound(x[:, 0], first, last), strict=True):
        draws = mine.elbo(row.expand(50_000, 1))
        error = draws.view(50, 1000).mean(1).std().item() / 50**0.5  # of a batch's draws, which are not independent
        assert draws.mean().item() == pytest.approx(expected.item(), abs=5 * error)


def test_bound_closes_on_the_likelihood() -> None:
    """With wide ends nothing is lost: continuous time has no discretisation gap."""
    x = torch.linspace(-1, 1.5, 5, dtype=torch.float64)
    assert (Normal(M, S).log_prob(x) - bound(x, -16.0, 14.0)).abs().max() < 1e-4


def test_what_lies_between_learns_the_variance_of_the_estimate() -> None:
    """The gradient of E[L²] in eta, by differences; a batch of one draw each, the same random numbers."""
    torch.manual_seed(0)
    mine = model()
    optimal(mine)
    x = torch.tensor([[0.7]], dtype=torch.float64).expand(4096, 1)
    parameter = mine.path.b

    def second_moment() -> Tensor:
        torch.manual_seed(1)
        return mine.diffusion(mine.scaling(x), None).square().mean()

    with torch.no_grad():
        mine.path.v.fill_(1.0)
        parameter[0] += 1e-4
        above = second_moment()
        parameter[0] -= 2e-4
        below = second_moment()
        parameter[0] += 1e-4
    torch.manual_seed(1)
    nats = mine.diffusion(mine.scaling(x), None)
    (grad,) = torch.autograd.grad(nats.mean() * nats.mean().detach(), parameter)
    assert grad[0].item() == pytest.approx(((above - below) / 2e-4).item(), rel=1e-2)


def test_untrained_noise_is_all_there_is_to_learn() -> None:
    """eps_hat = 0: the diffusion term is D (gamma_1 - gamma_0) / 2."""
    torch.manual_seed(0)
    mine = model(Space.levels((1, 2, 2), 5))
    first, last = mine.path.ends.tolist()
    x_0 = torch.zeros(40_000, 1, 2, 2, dtype=torch.float64)
    assert mine.diffusion(x_0, None).mean().item() == pytest.approx(4 * (last - first) / 2, rel=0.02)


def test_noise_that_is_learnt_gains_nothing_from_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on levels that are alike, where any noise is as good, exp(elbo) sums to at most one.

    Kills: a decoder that looks at too few levels, whose bound rises with gamma_0 without end.
    """
    monkeypatch.setattr(contracts.likelihood, "MOST_DRAWS", 1 << 21)  # the bound's draws vary much under little noise
    torch.manual_seed(0)
    space = Space.levels((1,), 256)
    mine = VDM(space, VDM.Config(width=8))
    optimiser = torch.optim.Adam(mine.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        mine.loss(torch.randint(256, (256, 1)).to(torch.uint8)).mean().backward()
        optimiser.step()
    mine.eval()
    for noise in (mine.path.ends[0].item(), -7.0, -3.0):  # as learnt, 4 and 30 gaps
        with torch.no_grad():
            mine.path.ends[0] = noise
        assert contracts.run(contracts.bound_sums_to_at_most_one, mine).passed, noise


def test_waves_fit_the_levels() -> None:
    """A gap of 256 levels on [-1, 1] is 2/255, and sin(2^n pi z) has the period 2^(1-n)."""
    assert frequencies(Space.levels((1, 8, 8), 256)) == [7, 8]  # as in the paper's appendix C
    assert frequencies(Space.continuous((2,))) == []


def test_the_network_is_given_both_waves_of_each_frequency() -> None:
    """z, sin(2^n pi z) and cos(2^n pi z), n of 3 and 4 for 17 levels. Kills: a wave twice, one of another length."""
    model, z = VDM(Space.levels((1, 2, 2), 17), VDM.Config(width=8)), torch.randn(3, 1, 2, 2)
    seen: list[Tensor] = []
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.noise(z, torch.zeros(3), None)
    turns = [f(math.pi * k * z) for k in (8, 16) for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(seen[0], torch.cat([z, *turns], 1), rtol=0, atol=1e-4)


def test_prior_is_the_divergence_of_the_last_state_from_noise() -> None:
    """By torch.distributions. Kills: its 1, its half or its logarithm's 2 left out."""
    mine, x = model(Space.continuous((3,))), torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        mine.path.ends.copy_(torch.tensor([-6.0, 1.0]))
    mean, std = mine.path.marginal(x, torch.ones((), dtype=torch.float64))
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(mine.prior(x), expected)


def test_the_bound_is_in_the_datas_units() -> None:
    """Data twice as large has a density 2^-D as high."""
    plain, scaled = model(Space.continuous((2,))), model(Space.continuous((2,), loc=(1.0, 1.0), scale=(2.0, 2.0)))
    scaled.load_state_dict(plain.state_dict())
    z = torch.randn(5, 2, dtype=torch.float64)
    torch.manual_seed(1)
    expected = plain.elbo(z) - 2 * math.log(2)
    torch.manual_seed(1)
    torch.testing.assert_close(scaled.elbo(2 * z + 1), expected)


def test_the_bound_is_under_the_condition() -> None:
    labelled = contracts.perturbed(VDM(Space.continuous((2,)), VDM.Config(width=8), Space.categories(2))).eval()
    x, bounds = torch.randn(5, 2), []
    for y in (torch.zeros(5), torch.ones(5)):
        torch.manual_seed(1)
        bounds.append(labelled.elbo(x, y.long()))
    assert ((bounds[0] - bounds[1]).abs() > 1e-4).all()


@pytest.mark.parametrize("first", [-6.0, -1.0, 2.0])
def test_reconstruction_of_real_numbers_is_the_entropy_of_their_noise(first: float) -> None:
    """N(x; z_0 / alpha, sigma² / alpha²), of whose mean x is a normal of that width: ½ log(2 pi e) + gamma_0 / 2.

    Kills: alpha left out of the mean or of the width, which is next to nothing where gamma_0 is low.
    """
    mine, n = model(Space.continuous((3,))), 4000
    with torch.no_grad():
        mine.path.ends[0] = first
    x = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64).expand(n, 3)
    nats = mine.reconstruction(x, mine.scaling(x))
    expected = 3 * (0.5 * math.log(2 * math.pi * math.e) + first / 2)
    assert nats.mean().item() == pytest.approx(expected, abs=5 * (3 / 2 / n) ** 0.5)
    assert nats.var().item() == pytest.approx(3 / 2, rel=0.25)  # half a chi-square of three


def test_the_network_is_given_the_noise_level_from_0_to_1() -> None:
    """Of any gamma between learnt ends. Kills: gamma that is not counted from the lower end, or not divided."""
    mine, seen = model(Space.continuous((2,))), list[Tensor]()
    with torch.no_grad():
        for parameter in mine.path.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    mine.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    gamma = mine.path.gamma(t).detach()
    mine.noise(torch.randn(3, 2, dtype=torch.float64), gamma, None)
    share = (gamma[1] - gamma[0]) / (gamma[2] - gamma[0])
    torch.testing.assert_close(seen[0].flatten(), torch.tensor([0.0, float(share), 1.0], dtype=torch.float64))


def test_the_noise_level_that_the_network_is_given_moves_with_the_ends() -> None:
    """Its scale is that of the present ends, as constants. Kills: a level that is the share of the way between them."""
    mine, seen = model(Space.continuous((2,))), list[Tensor]()
    mine.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    gamma = mine.path.gamma(torch.tensor([0.3], dtype=torch.float64))
    mine.noise(torch.randn(1, 2, dtype=torch.float64), gamma, None)
    (found,) = torch.autograd.grad(seen[0].sum(), mine.path.ends)
    low, high = mine.path.ends.tolist()
    share = (gamma.item() - low) / (high - low)
    assert found.tolist() == pytest.approx([(1 - share) / (high - low), share / (high - low)])
