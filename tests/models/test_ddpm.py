"""DDPM where the best denoiser and the exact likelihood are known: data N(m, s²)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dgm.distributions import discretised_normal
from dgm.errors import BadInput, Unsupported
from dgm.models.diffusion.ddpm import DDPM
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP, over
from dgm.space import Space

M, S = 0.3, 0.6
PLANE = Space.continuous((2,))


class Optimal(nn.Module):
    """E[eps | x_t] for x_0 ~ N(M, S²)."""

    def __init__(self, path: GaussianPath) -> None:
        super().__init__()
        self.path = path

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path.alpha(over(t, x_t)), self.path.sigma(over(t, x_t))
        return sigma * (x_t - alpha * M) / (alpha**2 * S**2 + sigma**2)


class Knowing(nn.Module):
    """eps itself, by knowing x_0."""

    def __init__(self, path: GaussianPath, x_0: Tensor) -> None:
        super().__init__()
        self.path, self.x_0 = path, x_0

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = over(t, x_t)
        return (x_t - self.path.alpha(t) * self.x_0) / self.path.sigma(t)


def ddpm(space: Space = PLANE, condition: Space | None = None, **config: object) -> DDPM:
    return DDPM(space, DDPM.Config(width=8, **config), condition).double()  # type: ignore[arg-type]


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def perturbed(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def reverse(model: DDPM, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Normal:
    """p(x_s | x_t) where x_0 is predicted."""
    mean, std = model.path.posterior(x_0, x_t, s, t)
    if model.config.variance == "forward":
        s, t = over(s, x_t), over(t, x_t)
        std = (model.path.sigma(t) ** 2 - (model.path.alpha(t) / model.path.alpha(s) * model.path.sigma(s)) ** 2).sqrt()
    return Normal(mean, std)


def bound_in_closed_form(model: DDPM, x: Tensor) -> Tensor:
    """The variational bound of the optimal denoiser at each x of one dimension, term by term by torch.distributions.

    x̂_0 = M + k (x_t - alpha M) with x_t = alpha x_0 + sigma eps, so
    E(x_0 - x̂_0)² = (x_0 - M)² (1 - k alpha)² + k² sigma².
    """
    path, steps = model.path, model.config.timesteps
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha, sigma = path.alpha(time), path.sigma(time)
    k = alpha * S**2 / (alpha**2 * S**2 + sigma**2)
    squares = (x[:, None] - M) ** 2 * (1 - k * alpha) ** 2 + k**2 * sigma**2
    bound = -kl_divergence(Normal(alpha[-1] * x, sigma[-1]), Normal(0.0, 1.0))
    bound = bound - (squares[:, 1] / sigma[1] ** 2 + math.log(2 * math.pi) + 2 * sigma[1].log()) / 2
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for i in range(2, steps + 1):
        q = Normal(*path.posterior(zero, zero, time[i - 1], time[i]))
        right, off = (kl_divergence(q, reverse(model, x_0, zero, time[i - 1], time[i])).item() for x_0 in (zero, one))
        bound = bound - right - (off - right) * squares[:, i]
    return bound


each_variance = pytest.mark.parametrize("variance", ["forward", "posterior"])


@each_variance
@pytest.mark.parametrize("path", [LinearVP(), CosineVP(), LinearVP(beta_max=2.0)], ids=["linear", "cosine", "short"])
def test_elbo_averages_to_the_bound_in_closed_form(path: GaussianPath, variance: str) -> None:
    """The short path ends far from N(0, I), so that the prior's term counts."""
    torch.manual_seed(0)
    model = ddpm(timesteps=20, variance=variance)
    model.path = path
    model.network = Optimal(model.path)  # type: ignore[assignment]
    x = torch.tensor([[-0.9, 0.4]], dtype=torch.float64)
    draws = model.elbo(x.expand(100_000, 2))
    expected = bound_in_closed_form(model, x[0]).sum().item()
    assert draws.mean().item() == pytest.approx(expected, abs=4 * draws.std().item() / 100_000**0.5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_bound_closes_on_the_likelihood_as_steps_grow(schedule: str) -> None:
    """With the forward variance, and for x from its density: sigma_1 is what a bound of T steps cannot see below."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    x, w = M + S * torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    exact = Normal(M, S).log_prob(x)
    gaps = [
        (w * (exact - bound_in_closed_form(ddpm(timesteps=steps, schedule=schedule), x))).sum().item()
        for steps in (10, 100, 1000)
    ]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2] > 0
    assert gaps[2] < 0.01


def test_posterior_variance_leaves_a_gap_that_steps_do_not_close() -> None:
    """It is half of what it should be at i = 2, however fine the steps."""
    x = torch.tensor([-0.9, 0.1, 0.4], dtype=torch.float64)
    small, large = (bound_in_closed_form(ddpm(timesteps=1000, variance=of), x) for of in ("posterior", "forward"))
    assert (small < large - 0.1).all()


@each_variance
def test_terms_are_divergences_of_the_posteriors(variance: str) -> None:
    torch.manual_seed(0)
    model, x_0 = ddpm(timesteps=10, variance=variance), torch.randn(6, 2, dtype=torch.float64)
    perturbed(model)
    q = Normal(*model.path.marginal(x_0, torch.tensor(1.0, dtype=torch.float64)))
    torch.testing.assert_close(model.prior_kl(x_0), kl_divergence(q, Normal(0.0, 1.0)).sum(1))
    i = torch.tensor([2, 3, 5, 7, 9, 10])
    torch.manual_seed(1)
    terms = model.transition_kl(x_0, i, None)
    torch.manual_seed(1)
    s, t = (i - 1).double() / 10, (i / torch.tensor(10.0)).double()  # the model's t is float32 and then float64
    x_t = model.path.corrupt(x_0, torch.randn_like(x_0), t)
    alpha, sigma = model.path.alpha(t)[:, None], model.path.sigma(t)[:, None]
    x_0_predicted = (x_t - sigma * model.network(x_t, t)) / alpha
    q = Normal(*model.path.posterior(x_0, x_t, s, t))
    expected = kl_divergence(q, reverse(model, x_0_predicted, x_t, s, t)).sum(1)
    torch.testing.assert_close(terms, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("schedule", "kind"), [("linear", LinearVP), ("cosine", CosineVP)])
def test_schedule_is_the_one_named_and_begins_at_the_first_step(schedule: str, kind: type) -> None:
    model = ddpm(schedule=schedule, timesteps=8)
    assert type(model.path) is kind
    assert model.t_min == 1 / 8


@each_variance
def test_steps_are_drawn_as_their_weights(variance: str) -> None:
    model = ddpm(timesteps=5, variance=variance)
    probability = model.step_probabilities()
    snr = [model.path.snr(double(i / 5)).item() for i in range(6)]
    sigma = [model.path.sigma(double(i / 5)).item() for i in range(6)]
    rho = [(sigma[i - 1] / sigma[i]) ** 2 if variance == "forward" else 1.0 for i in range(2, 6)]
    weights = [rho[i - 2] * (snr[i - 1] - snr[i]) / (1 + snr[i]) for i in range(2, 6)]
    torch.testing.assert_close(probability[2:] / probability[2], torch.tensor(weights).double() / weights[0])
    assert probability[:2].sum() == 0
    assert probability.sum().item() == pytest.approx(1)


def test_units_of_unbounded_data() -> None:
    """Data twice as large has a density 2^-D as high: the same bound, less D log 2."""
    torch.manual_seed(0)
    plain, scaled = ddpm(), ddpm(Space.continuous((2,), loc=(1.0, 1.0), scale=(2.0, 2.0)))
    scaled.load_state_dict(plain.state_dict())
    z = torch.randn(5, 2, dtype=torch.float64)
    torch.manual_seed(1)
    expected = plain.elbo(z) - 2 * math.log(2)
    torch.manual_seed(1)
    torch.testing.assert_close(scaled.elbo(2 * z + 1), expected)


def test_loss_is_one_untrained_and_zero_with_the_answer() -> None:
    torch.manual_seed(0)
    model, x = ddpm(), torch.randn(20_000, 2, dtype=torch.float64)
    assert model.loss(x).mean().item() == pytest.approx(1, abs=4 / 20_000**0.5)  # a mean of squares of two normals
    model.network = Knowing(model.path, x)  # type: ignore[assignment]
    assert model.loss(x).max() < 1e-12


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_samples_follow_the_data(sampler: str) -> None:
    model = ddpm(sampler=sampler, sampling_steps=200)
    model.network = Optimal(model.path)  # type: ignore[assignment]
    x = model.sample(4000, seed=0).double()
    assert x.mean().item() == pytest.approx(M, abs=4 * S / 8000**0.5)
    assert x.std().item() == pytest.approx(S, rel=0.04)  # 4 standard errors, and 1 % for the steps


def test_ddim_differs_from_ancestral_and_noise_is_the_samples_own() -> None:
    torch.manual_seed(0)
    model = ddpm(sampling_steps=4, sampler="ancestral")
    perturbed(model)
    torch.testing.assert_close(model.sample(5, seed=3)[:2], model.sample(2, seed=3))
    other = ddpm(sampling_steps=4, sampler="ddim")
    other.load_state_dict(model.state_dict())
    assert (other.sample(2, seed=3) - model.sample(2, seed=3)).abs().min() > 1e-3


def test_labels() -> None:
    torch.manual_seed(0)
    model, x = ddpm(condition=Space.categories(3)), torch.randn(4, 2, dtype=torch.float64)
    perturbed(model)
    y = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(1)
    one = model.elbo(x, y)
    torch.manual_seed(1)
    assert ((one - model.elbo(x, (y + 1) % 3)).abs() > 1e-6).all()
    of_terms = []
    for labels in (y, (y + 1) % 3):
        torch.manual_seed(1)
        of_terms.append(torch.stack(model.terms(x, labels)))
    assert ((of_terms[0] - of_terms[1]).abs() > 1e-6).all(1).tolist() == [True, True, False]
    with pytest.raises(Unsupported):
        model.elbo(x)
    with pytest.raises(BadInput):
        model.sample(1, torch.tensor([3]))
    with pytest.raises(Unsupported):
        ddpm().loss(x, y)


@pytest.mark.parametrize("values", [2, 17, 256])
def test_cells_of_the_decoder_share_the_whole_mass(values: int) -> None:
    x = torch.arange(values)[:, None]
    mean = torch.tensor([-3.0, -1.0, -0.21, 0.0, 0.7, 1.0, 3.0])
    for std in (0.005, 0.1, 5.0):
        nats = discretised_normal.log_prob(x, mean, torch.tensor(std), values)
        torch.testing.assert_close(nats.logsumexp(0), torch.zeros(7, dtype=torch.float64), atol=1e-9, rtol=0)


def test_cells_of_the_decoder_are_scipys_and_far_tails_are_finite() -> None:
    edges = (np.arange(1, 17) * 2 - 1) / 16 - 1
    cdf = scipy.stats.norm(0.1, 0.3).cdf(np.concatenate([[-np.inf], edges, [np.inf]]))
    nats = discretised_normal.log_prob(torch.arange(17), double(0.1), double(0.3), 17)
    np.testing.assert_allclose(nats.numpy(), np.log(np.diff(cdf)), rtol=1e-9)
    mean = torch.tensor([-1.0, 1.0], requires_grad=True)
    far = discretised_normal.log_prob(torch.tensor([255, 0]), mean, torch.tensor(1e-3), 256)
    far.sum().backward()
    assert far.isfinite().all()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    torch.testing.assert_close(far[0], far[1])


def test_reconstruction_of_levels_sums_to_one_over_the_last_step() -> None:
    """sum over x of p(x | x_1), with one x_1 for all x."""
    model = ddpm(Space.levels((1, 1, 1), 5), timesteps=4)
    perturbed(model)
    x = torch.arange(5).reshape(5, 1, 1, 1)
    torch.manual_seed(0)
    x_1 = torch.randn(1, 1, 1, 1, dtype=torch.float64)
    model.path.corrupt = lambda x_0, eps, t: x_1.expand_as(x_0)  # type: ignore[method-assign]
    nats = model.reconstruction(x, model.scaling(x), None)
    assert nats.logsumexp(0).item() == pytest.approx(0, abs=1e-9)


class Choosing(nn.Module):
    """The best noise, and a v the same everywhere."""

    def __init__(self, path: GaussianPath, v: float) -> None:
        super().__init__()
        self.best, self.v = Optimal(path), nn.Parameter(double(v))
        self.shift = nn.Parameter(double(0.0))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        eps = self.best(x_t, t) + self.shift
        return torch.cat([eps, self.v.expand_as(eps)], 1)


@pytest.mark.parametrize(("v", "variance"), [(-1.0, "posterior"), (1.0, "forward")])
def test_learnt_variance_at_its_ends_is_one_of_the_fixed(v: float, variance: str) -> None:
    """Equation 15 of arXiv:2102.09672. Kills: the ends swapped, in the bound or in the sampler."""
    learnt, fixed = ddpm(variance="learnt", sampler="ancestral"), ddpm(variance=variance, sampler="ancestral")
    learnt.network, fixed.network = Choosing(learnt.path, v), Optimal(fixed.path)  # type: ignore[assignment]
    x, i = torch.randn(6, 2, dtype=torch.float64), torch.tensor([2, 3, 10, 40, 80, 100])
    terms = []
    for model in (learnt, fixed):
        torch.manual_seed(1)
        terms.append(model.transition_kl(x, i, None))
    torch.testing.assert_close(*terms)
    torch.testing.assert_close(learnt.sample(4, seed=0), fixed.sample(4, seed=0))


def test_learnt_variance_lies_between_on_a_log_scale() -> None:
    model = ddpm(variance="learnt")
    forward = torch.tensor([0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(model.ratio(forward, torch.full((2,), 0.5, dtype=torch.float64)), forward.sqrt())


def test_hybrid_loss_is_the_unweighted_one_and_a_thousandth_of_the_bound() -> None:
    """Section 3.1 of arXiv:2102.09672, on the loss's own draws of i and eps; x_0 is clamped and fixed in the bound.

    Kills: lambda, T or D left out, the decoder in another step than the first, v taken for v' = (v + 1) / 2.
    """
    model = ddpm(Space.continuous((2,), low=-1.0, high=1.0), variance="learnt", timesteps=3)
    model.network = network = Choosing(model.path, 0.3)  # type: ignore[assignment]
    network.shift.data.fill_(2.0)
    x = 2 * torch.rand(50, 2, dtype=torch.float64) - 1
    torch.manual_seed(1)
    found = model.loss(x)
    torch.manual_seed(1)
    i, eps = torch.randint(1, 4, (50,)), torch.randn_like(x)
    expected = []
    for k, noise, x_0 in zip(i.tolist(), eps, x, strict=True):
        s, t = double((k - 1) / 3), double(k / 3)
        x_t = model.path.corrupt(x_0, noise, t)
        said = network.best(x_t[None], t)[0] + 2
        predicted = ((x_t - model.path.sigma(t) * said) / model.path.alpha(t)).clamp(-1, 1)
        if k == 1:
            bound = -Normal(predicted, model.path.sigma(t)).log_prob(x_0).sum()
        else:
            (right, std), (mean, _) = (model.path.posterior(of, x_t, s, t) for of in (x_0, predicted))
            forward = model.path.transition(s, t)[1].sqrt()
            mixed = std**0.35 * forward**0.65  # v' = (0.3 + 1) / 2
            bound = kl_divergence(Normal(right, std), Normal(mean, mixed)).sum()
        expected.append((said - noise).square().mean() + 0.001 * 3 * bound / 2)
    assert (i == 1).sum() > 5
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)  # the model's t is float32 at first


def test_hybrid_loss_leaves_the_noise_to_the_unweighted_one() -> None:
    """The bound's part moves v alone; at the best noise the gradient in the noise is that of L_simple."""
    torch.manual_seed(0)
    learnt, simple = ddpm(variance="learnt"), ddpm()
    learnt.network = network = Choosing(learnt.path, 0.3)  # type: ignore[assignment]
    network.shift.data.fill_(0.2)
    plain = Choosing(simple.path, 0.0)
    plain.shift.data.fill_(0.2)
    simple.network = nn.Module()  # type: ignore[assignment]
    simple.network.forward = lambda *args: plain(*args).chunk(2, 1)[0]  # type: ignore[method-assign]
    x, gradients = M + S * torch.randn(500, 2, dtype=torch.float64), []
    for model, shift in ((learnt, network.shift), (simple, plain.shift)):
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(model.loss(x).mean(), shift, retain_graph=True)[0])
    torch.testing.assert_close(*gradients)
    torch.manual_seed(1)
    assert torch.autograd.grad(learnt.loss(x).mean(), network.v)[0].abs() > 1e-6


@pytest.mark.parametrize(
    ("space", "kept"),
    [(PLANE, 3.0), (Space.continuous((2,), low=-1.0, high=1.0), 1.0), (Space.levels((2,), 5), 1.0)],
    ids=["unbounded", "bounded", "levels"],
)
def test_bound_of_one_prediction_with_and_without_the_datas_bounds(space: Space, kept: float) -> None:
    """x_0 is predicted to be 3 everywhere, so that no term depends on the noise. Kills: no clamp in one of them."""
    model = ddpm(space, timesteps=4, variance="posterior")
    model.network = Knowing(model.path, double(3.0))  # type: ignore[assignment]
    x = torch.tensor([[1, 4]]) if space.discrete else torch.tensor([[-0.5, 1.0]], dtype=torch.float64)
    x_0 = model.scaling(x)
    snr = model.path.snr(torch.arange(5, dtype=torch.float64) / 4)
    expected = -kl_divergence(Normal(*model.path.marginal(x_0, double(1.0))), Normal(0.0, 1.0)).sum()
    expected = expected - (snr[1] - snr[4]) / 2 * (x_0 - kept).square().sum()
    std = model.path.sigma(double(0.25))
    if space.discrete:
        expected = expected + discretised_normal.log_prob(x, torch.full_like(x_0, kept), std, 5).sum()
    else:
        expected = expected + Normal(kept, std).log_prob(x_0).sum()
    found = model.elbo(x.expand(2000, 2)).mean()  # a batch's draws of i are spread evenly
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


def test_a_batchs_steps_are_spread_evenly_and_none_is_of_probability_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = ddpm(timesteps=5), list[Tensor]()
    monkeypatch.setattr(model, "transition_kl", lambda x_0, i, y: seen.append(i) or x_0[:, 0])
    model.elbo(torch.zeros(1000, 2, dtype=torch.float64))
    counts = seen[0].bincount(minlength=6)
    assert ((counts - 1000 * model.step_probabilities()).abs() < 1 + 1e-9).all()
    monkeypatch.setattr("dgm.models.diffusion.ddpm.stratified", lambda n, device: torch.zeros(n))
    assert model.elbo(torch.zeros(3, 2, dtype=torch.float64)).isfinite().all()
    assert (seen[1] == 2).all()


def test_the_terms_make_up_the_bound() -> None:
    torch.manual_seed(0)
    model, x = ddpm(Space.continuous((2,), loc=(1.0, 1.0), scale=(2.0, 2.0))), torch.randn(5, 2, dtype=torch.float64)
    perturbed(model)
    torch.manual_seed(1)
    reconstruction, transitions, prior = model.terms(x)
    torch.manual_seed(1)
    torch.testing.assert_close(model.elbo(x), reconstruction - transitions - prior - 2 * math.log(2))
