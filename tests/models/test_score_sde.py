"""Score SDEs where the score of each x_t is known, data N(M, s²); and their two special cases with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import dgm
from dgm.errors import BadInput
from dgm.models.diffusion.ddpm import DDPM
from dgm.models.score.ncsn import NCSN
from dgm.models.score.score_sde import ScoreSDE
from dgm.processes.gaussian import GaussianPath, LinearVP, SubVP, VarianceExploding, over
from dgm.samplers import flow_density
from dgm.space import Space

M, S = 0.3, 0.6
each_path = pytest.mark.parametrize("path", ["ve", "vp", "sub_vp"])
each_weighting = pytest.mark.parametrize("weighting", ["sigma2", "likelihood"])


class Linear(nn.Module):
    """-sigma times a score of -slope (x - alpha M) / (alpha² S² + sigma²), asked as the model asks; 1 is the truth."""

    def __init__(self, path: GaussianPath, slope: float = 1.0) -> None:
        super().__init__()
        self.path, self.slope, self.shift = path, nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path.alpha(over(t, x)), self.path.sigma(over(t, x))
        x_t = x * (alpha**2 + sigma**2).sqrt()
        return sigma * self.slope * (x_t - alpha * (M + self.shift)) / (alpha**2 * S**2 + sigma**2)


def score_sde(space: Space | None = None, **config: object) -> ScoreSDE:
    return ScoreSDE(space or Space.continuous((1,)), ScoreSDE.Config(width=8, **config)).double()  # type: ignore[arg-type]


def knowing(space: Space | None = None, slope: float = 1.0, **config: object) -> ScoreSDE:
    model = score_sde(space, **config)
    model.network = Linear(model.path, slope)  # type: ignore[assignment]
    return model


@each_weighting
@each_path
def test_true_score_makes_the_gradient_of_the_loss_zero(path: str, weighting: str) -> None:
    model, gradients = knowing(path=path, weighting=weighting, sigma_min=0.1, sigma_max=5.0), []
    network = model.network
    for _ in range(40):
        loss = model.loss(M + S * torch.randn(2000, 1, dtype=torch.float64)).mean()
        gradients.append(torch.stack(torch.autograd.grad(loss, [network.slope, network.shift])))
    drawn = torch.stack(gradients)
    assert (drawn.mean(0).abs() < 4 * drawn.std(0) / 40**0.5).all()
    wrong = knowing(path=path, weighting=weighting, slope=0.8, sigma_min=0.1, sigma_max=5.0)
    loss = wrong.loss(M + S * torch.randn(100_000, 1, dtype=torch.float64)).mean()
    assert torch.autograd.grad(loss, wrong.network.slope)[0] < -0.01


@each_weighting
@each_path
def test_loss_is_the_integral_over_time(path: str, weighting: str) -> None:
    """With the slope c, E (sigma s + eps)² = c² sigma² / v + 1 - 2 c sigma² / v, where v = alpha² S² + sigma²."""
    model = knowing(path=path, weighting=weighting, slope=0.5)
    # a midpoint rule in log t, where the weights of lambda = g² change most
    edges = torch.logspace(float(np.log10(model.t_min)), 0, 200_001, dtype=torch.float64)
    t, dt = (edges[1:] + edges[:-1]) / 2, edges.diff()
    alpha, sigma, (_, g2) = model.path.alpha(t), model.path.sigma(t), model.path.rates(t)
    share = sigma**2 / (alpha**2 * S**2 + sigma**2)
    squares = 0.25 * share + 1 - share
    density = 1 / (1 - model.t_min) if weighting == "sigma2" else g2 / sigma**2
    expected = (density * squares * dt).sum().item() / 2
    draws = model.loss(M + S * torch.randn(200_000, 1, dtype=torch.float64)).detach()
    assert draws.mean().item() == pytest.approx(expected, abs=4 * draws.std().item() / 200_000**0.5)


@each_path
def test_score_is_the_perturbed_densitys(path: str) -> None:
    model = knowing(path=path)
    for t in (model.t_min, 0.4, 1.0):
        x, time = torch.randn(5, 1, dtype=torch.float64, requires_grad=True), torch.full((5,), t, dtype=torch.float64)
        (expected,) = torch.autograd.grad(marginal(model, time).log_prob(x).sum(), x)
        torch.testing.assert_close(model.score(x, time).detach(), expected)


def marginal(model: ScoreSDE, t: Tensor) -> Normal:
    alpha, sigma = model.path.alpha(t)[..., None], model.path.sigma(t)[..., None]
    return Normal(alpha * M, (alpha**2 * S**2 + sigma**2).sqrt())


@each_path
def test_density_is_the_priors_carried_along_the_ode(path: str) -> None:
    """It keeps standard scores: x_1 is affine in x. The prior is N(0, sigma_1²), which x_1's own law is near to."""
    model, x = knowing(Space.continuous((2,)), path=path), torch.randn(5, 2, dtype=torch.float64)
    first, last = (marginal(model, torch.tensor(t, dtype=torch.float64)) for t in (model.t_min, 1.0))
    stretch = last.scale / first.scale
    prior = Normal(0.0, model.path.sigma(torch.tensor(1.0, dtype=torch.float64)))
    expected = (prior.log_prob(last.mean + stretch * (x - first.mean)) + stretch.log()).sum(1)
    found = flow_density.log_prob(model, x, ode=flow_density.ODE(tolerance=1e-5))
    torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)
    torch.testing.assert_close(model.log_prob_estimate(x), expected, atol=5e-2, rtol=0)
    torch.testing.assert_close(expected, first.log_prob(x).sum(1), atol=3e-2, rtol=0)


@each_path
def test_samples_follow_the_data(path: str) -> None:
    x = knowing(path=path).sample(4000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * S / 4000**0.5 + 0.01)
    assert x.std().item() == pytest.approx(S, rel=0.06)  # 4 standard errors, and 1 % for the steps


def test_levels_of_the_exploding_path_are_the_papers() -> None:
    """Appendix C: from 0.01 to 50; times begin at 1e-5, and at 1e-3 where variance is preserved."""
    model = score_sde(path="ve")
    ends = model.path.sigma(torch.tensor([model.t_min, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.01, 50.0], dtype=torch.float64), rtol=1e-4, atol=0)
    kinds = {name: type(score_sde(path=name).path) for name in ("ve", "vp", "sub_vp")}
    assert kinds == {"ve": VarianceExploding, "vp": LinearVP, "sub_vp": SubVP}
    assert (model.t_min, score_sde(path="vp").t_min, score_sde(path="sub_vp").t_min) == (1e-5, 1e-3, 1e-3)


def test_loss_is_half_untrained() -> None:
    x = torch.randn(20_000, 1, dtype=torch.float64)
    assert score_sde().loss(x).mean().item() == pytest.approx(0.5, abs=4 * 0.5 * (2 / 20_000) ** 0.5)


def trained(name: str, **config: object) -> nn.Module:
    """A few steps on digits, enough that no weight is where it began."""
    data = dgm.data.load("digits")
    model = dgm.create(name, data.space, width=8, **config)
    list(dgm.fit(model, data, steps=20, batch=64))
    return model.eval()


@pytest.mark.slow
def test_ncsn_is_the_exploding_path() -> None:
    """One network, one score at every level, one density by the ODE."""
    ncsn = trained("ncsn")
    assert isinstance(ncsn, NCSN)
    levels = {"sigma_min": ncsn.config.sigma_min, "sigma_max": ncsn.config.sigma_max}
    sde = dgm.create("score_sde", ncsn.space, path="ve", width=8, **levels)
    sde.load_state_dict(ncsn.state_dict())
    t = torch.linspace(ncsn.t_min, 1, ncsn.config.noise_scales)
    sigma = torch.logspace(np.log10(0.05), np.log10(5.0), ncsn.config.noise_scales)
    torch.testing.assert_close(sde.path.sigma(t), sigma, rtol=1e-4, atol=0)  # t_min is not quite 0
    x = torch.randn(len(t), 1, 8, 8) * (1 + sigma[:, None, None, None])
    torch.testing.assert_close(sde.score(x, t), ncsn.score(x, t))
    assert ncsn.score(x, t).abs().max() > 0.01
    sampler = ncsn.sampler
    torch.testing.assert_close(dgm.samplers.diffusion.sample(sde, 3, seed=0, sampler=sampler), ncsn.sample(3, seed=0))


@pytest.mark.slow
def test_ddpm_is_the_path_that_preserves_variance() -> None:
    """s = -eps / sqrt(1 - alphabar) at each of its steps, and the same likelihood by the ODE."""
    ddpm = trained("ddpm", schedule="linear", timesteps=1000)
    assert isinstance(ddpm, DDPM)
    sde = dgm.create("score_sde", ddpm.space, path="vp", width=8)
    sde.load_state_dict(ddpm.state_dict())
    t = torch.arange(50, 1001, 50) / 1000
    alphabar = torch.cumprod(1 - torch.linspace(0.1, 20, 1000, dtype=torch.float64) / 1000, 0)[49::50].float()
    x_t = torch.randn(20, 1, 8, 8)
    # the schedule in steps is the continuous one up to O(1 / T)
    eps = ddpm.network(x_t, t)
    expected = -eps / (1 - alphabar).sqrt()[:, None, None, None]
    torch.testing.assert_close(sde.score(x_t, t), expected, rtol=0.02, atol=1e-3)
    exact = -ddpm.predict(x_t, t).eps / ddpm.path.sigma(t)[:, None, None, None]
    torch.testing.assert_close(sde.score(x_t, t), exact, rtol=1e-4, atol=1e-5)
    x = dgm.data.load("digits").test.x[:4]
    found = []
    for model in (ddpm, sde):
        torch.manual_seed(1)
        found.append(flow_density.log_prob(model, x))
    # two solutions by steps of their own, each to 1e-4 a step
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-2)


def test_levels_out_of_order_are_refused() -> None:
    with pytest.raises(BadInput, match="sigma_min must be below"):
        score_sde(sigma_min=2.0, sigma_max=1.0)
