"""The density that the ODE gives, where it is known: one normal, on several paths, as it is and of levels."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from dgm.distributions.scaling import Scaling
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, VarianceExploding
from dgm.processes.parameterisation import Prediction
from dgm.samplers import flow_density
from dgm.samplers.flow_density import ODE
from dgm.samplers.ode import TABLEAUX
from dgm.space import Space

from .gaussian import marginal, optimal, path_name


class Normal:
    """The best model of N(M, S²) in the path's units, each dimension alone."""

    def __init__(self, space: Space, path: GaussianPath, t_min: float) -> None:
        self.space, self.path, self.t_min, self.scaling = space, path, t_min, Scaling(space).double()
        self.config, self.evaluations = SimpleNamespace(), 0

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        self.evaluations += 1
        return optimal(self.path)(x, t)


# a prior N(0, sigma_1²) is off by what is left of the data there, most with the cosine
PATHS = [CosineVP(), LinearVE(80.0), Straight()]


@pytest.mark.parametrize("path", PATHS, ids=path_name)
@pytest.mark.parametrize("dim", [2, 20])
def test_adaptive_log_prob_is_the_normals(path: GaussianPath, dim: int) -> None:
    """Within the tolerance a step; the trace of a scaled identity is exact under any signs."""
    model = Normal(Space.continuous((dim,), loc=(2.0,) * dim, scale=(3.0,) * dim), path, t_min=1e-3)
    x = 2 + 3 * torch.randn(40, dim, dtype=torch.float64)
    mean, std = marginal(path, flow_density.first_time(model))
    expected = torch.distributions.Normal(mean, std).log_prob((x - 2) / 3).sum(1) - dim * math.log(3)
    found = flow_density.log_prob(model, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-2 * dim)
    assert model.evaluations < 150


def test_a_finer_tolerance_comes_nearer() -> None:
    """But for what the prior misses, which is nothing on the straight path."""
    model, x = Normal(Space.continuous((2,)), Straight(), t_min=1e-3), torch.randn(40, 2, dtype=torch.float64)
    mean, std = marginal(model.path, flow_density.first_time(model))
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(1)
    found = flow_density.log_prob(model, x, ode=ODE(tolerance=1e-6))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_a_solver_of_fixed_steps_has_its_order(solver: str, order: int) -> None:
    """Twice the steps, 2^order times less error, on a path whose prior misses nothing."""
    model, x = Normal(Space.continuous((2,)), Straight(), t_min=0.2), torch.randn(10, 2, dtype=torch.float64)
    mean, std = marginal(model.path, flow_density.first_time(model))
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(1)
    coarse, fine = (
        (flow_density.log_prob(model, x, ode=ODE(solver=solver, solver_steps=steps)) - expected).abs().mean()  # type: ignore[arg-type]
        for steps in (6, 12)
    )
    assert 0.7 * 2**order < coarse / fine < 1.4 * 2**order
    assert model.evaluations == 18 * len(TABLEAUX[solver].b)


class Correlated(Normal):
    """The best model of N(0, C) with C of unequal variances and a correlation: its Jacobian is no multiple of 1."""

    def __init__(self, dim: int) -> None:
        super().__init__(Space.continuous((dim,)), Straight(), t_min=0.1)
        mix = torch.eye(dim, dtype=torch.float64) + 0.5 * torch.ones(dim, dim, dtype=torch.float64).tril(-1)
        self.covariance = mix @ mix.T

    def noisy(self, t: Tensor) -> Tensor:
        eye = torch.eye(len(self.covariance), dtype=torch.float64)
        return self.path.alpha(t) ** 2 * self.covariance + self.path.sigma(t) ** 2 * eye

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        of_each = [torch.linalg.solve(self.noisy(at), row) for row, at in zip(x, t, strict=True)]
        eps = self.path.sigma(t)[:, None] * torch.stack(of_each)
        x_0 = self.path.alpha(t)[:, None] * torch.stack(of_each) @ self.covariance
        return Prediction(x_0, eps)


def test_an_exact_trace_gives_the_density_and_a_stochastic_one_its_mean() -> None:
    """Of three dimensions that depend on each other; 200 draws within five standard errors, and unequal."""
    model, x = Correlated(3), torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    t = flow_density.first_time(model)
    expected = torch.distributions.MultivariateNormal(torch.zeros(3).double(), model.noisy(t)).log_prob(x).item()
    exact = flow_density.log_prob(model, x, ode=ODE(trace="exact", tolerance=1e-6))
    assert exact.item() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(flow_density.log_prob(model, x), flow_density.log_prob(model, x, ode=ODE(trace="exact")))
    drawn = flow_density.log_prob(model, x.expand(200, -1), ode=ODE(trace="hutchinson", solver="rk4", solver_steps=12))
    assert drawn.std() > 0.05
    assert (drawn.mean() - expected).abs() < 5 * drawn.std() / 200**0.5


def test_how_it_is_solved_is_said() -> None:
    plane, wide = Space.continuous((2,)), Space.continuous((17,))
    assert ODE().words(plane) == "ODE to 0.0001, exact trace"
    assert ODE(trace="hutchinson").words(plane) == "ODE to 0.0001, stochastic trace"
    assert ODE(solver="rk4", solver_steps=7).words(wide) == "ODE by rk4 in 7 steps, stochastic trace"
    assert [ODE().exact(Space.continuous((dim,))) for dim in (16, 17)] == [True, False]
    assert ODE(trace="exact", tolerance=1e-6).words(wide) == "ODE to 1e-06, exact trace"


def test_an_example_depends_on_no_other() -> None:
    """To rounding, where steps that serve a whole batch agree within the solver's tolerance alone."""
    model = Normal(Space.continuous((2,)), CosineVP(), t_min=1e-3)
    x = torch.logspace(-2, 1.5, 9, dtype=torch.float64)[:, None].expand(-1, 2)
    alone = torch.cat([flow_density.log_prob(model, row[None]) for row in x])
    torch.testing.assert_close(flow_density.log_prob(model, x), alone, rtol=1e-12, atol=0)


def test_an_example_keeps_its_condition_when_others_have_ended() -> None:
    """x = y + N(0, 0.01²) on the straight path; those of the smallest y need the fewest steps and come first."""

    class Shifted(Normal):
        def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
            assert y is not None
            alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
            standard = (x - alpha * y) / (1e-4 * alpha**2 + sigma**2)
            return Prediction(y + 1e-4 * alpha * standard, sigma * standard)

    model = Shifted(Space.continuous((1,)), Straight(), t_min=0.1)
    y = torch.tensor([[0.0], [3.0], [300.0]], dtype=torch.float64)
    found = flow_density.log_prob(model, 0.9 * y + 0.02, y, ODE(tolerance=1e-6))
    expected = torch.distributions.Normal(0.0, math.sqrt(0.01 + 0.81e-4)).log_prob(torch.tensor(0.02)).expand(3)
    torch.testing.assert_close(found, expected.double(), rtol=0, atol=1e-3)


def dequantised(path: GaussianPath, t: Tensor, values: int) -> Tensor:
    """E_q[log p(x_t) + log P(x | x_t) - log q(x_t | x)] of each level, by quadrature over q and Bayes' rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    eps, w = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    alpha, sigma, x_0 = path.alpha(t), path.sigma(t), torch.linspace(-1, 1, values, dtype=torch.float64)
    x_t = alpha * x_0[:, None] + sigma * eps
    log_q = torch.distributions.Normal(alpha * x_0[:, None, None], sigma).log_prob(x_t)  # (x_0, x, eps)
    own = log_q.diagonal().T
    decoded = own - log_q.logsumexp(0)
    return (torch.distributions.Normal(*marginal(path, t)).log_prob(x_t) + decoded - own) @ w


@pytest.mark.parametrize("dim", [1, 17])
@pytest.mark.parametrize(("values", "t_min"), [(5, 0.0), (9, 0.0), (9, 0.6)])
def test_levels_are_dequantised_and_decoded(values: int, t_min: float, dim: int) -> None:
    """Also where the least noise is of six gaps. Kills: the entropy of the noise without its e, without its 2 or by one
    dimension, and each term left out.
    """
    model = Normal(Space.levels((dim,), values), Straight(), t_min=t_min)
    x = torch.arange(values).repeat_interleave(1000)[:, None].expand(-1, dim)
    drawn = flow_density.log_prob(model, x).view(values, 1000)
    t = flow_density.first_time(model)
    expected = dim * dequantised(model.path, t, values)
    errors = 4 * drawn.std(1) / 1000**0.5 + 1e-3
    assert ((drawn.mean(1) - expected).abs() < errors).all()
    assert errors.max() < 0.12 * dim**0.5  # where the e is half a nat a dimension


@pytest.mark.parametrize("path", PATHS, ids=path_name)
def test_dequantising_noise_is_a_quarter_of_the_gap_or_the_least_known(path: GaussianPath) -> None:
    space = Space.levels((2,), 17)
    t = flow_density.first_time(Normal(space, path, t_min=1e-6))
    assert (path.sigma(t) / path.alpha(t)).item() == pytest.approx(1 / 4 * 2 / 16)
    eighth = flow_density.first_time(Normal(space, path, t_min=1e-6), 1 / 8)
    assert (path.sigma(eighth) / path.alpha(eighth)).item() == pytest.approx(1 / 8 * 2 / 16)
    assert flow_density.first_time(Normal(space, path, t_min=0.7)).item() == 0.7
    assert flow_density.first_time(Normal(Space.continuous((2,)), path, t_min=1e-6)).item() == 1e-6


class EveryLevelAlike:
    """The best model of one level of K, each as likely: a mixture of K normals in the path's units."""

    def __init__(self, values: int, path: GaussianPath, t_min: float) -> None:
        self.space, self.path, self.t_min = Space.levels((1,), values), path, t_min
        self.scaling, self.config = Scaling(self.space).double(), SimpleNamespace()
        self.levels = torch.linspace(-1, 1, values, dtype=torch.float64)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        x_0 = (-((x - alpha * self.levels) / sigma).square() / 2).softmax(1) @ self.levels[:, None]
        return Prediction(x_0, (x - alpha * x_0) / sigma)


WIDE = [  # noise at t_min in gaps of 256 levels: 0.25 (t_min does not bind), 3.2, 8.5, 45, 6.4, 25
    (Straight(), 1e-4),
    (CosineVP(), 1 / 100),
    (LinearVP(), 1 / 100),
    (LinearVP(), 1 / 10),
    (VarianceExploding(0.05, 50.0), 1e-5),
    (VarianceExploding(0.2, 50.0), 1e-5),
]


@pytest.mark.parametrize(("path", "t_min"), WIDE, ids=lambda part: part if isinstance(part, float) else path_name(part))
def test_a_levels_estimate_is_its_probability_at_any_noise(
    path: GaussianPath, t_min: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the best model of levels that are alike, p(x_t) P(x | x_t) = q(x_t | x) / K whatever the noise's draw.

    Kills: a decoder that looks at too few levels, the entropy without its e or its noise, a noise of another strength.
    """
    values = 256
    signs = torch.arange(values, dtype=torch.float64)[:, None] % 2 * 2 - 1
    # noise of one standard deviation to either side: -log q(x_t | x) is then its mean, the entropy, exactly
    monkeypatch.setattr(flow_density.torch, "randn_like", lambda x: signs.to(x))
    model = EveryLevelAlike(values, path, t_min)
    found = flow_density.log_prob(model, torch.arange(values, dtype=torch.uint8)[:, None])
    # the cosine keeps 1 % of the data at t = 1, where the prior takes none for granted
    torch.testing.assert_close(found, torch.full_like(found, -math.log(values)), rtol=0, atol=0.03)
