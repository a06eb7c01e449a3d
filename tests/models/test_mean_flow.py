"""Mean flow where the average velocity is known: data N(m, s²), whose flow keeps standard scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dgm.models.flow_matching.mean_flow import SMALLEST, TIME_SCALE, MeanFlow
from dgm.processes.gaussian import over
from dgm.samplers import diffusion, flow_density
from dgm.seeds import streams
from dgm.space import Space

M, S = 0.3, 0.6


def moments(t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of z_t."""
    return (1 - t) * M, ((1 - t) ** 2 * S**2 + t**2).sqrt()


class Optimal(nn.Module):
    """u = (z_t - z_r) / (t - r) where z keeps its standard score, and at r = t its limit; times ``slope``."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        t, apart = over(times[:, 0] / TIME_SCALE, z), over(times[:, 1] / TIME_SCALE, z)
        (mean_t, std_t), (_, std_r) = moments(t), moments(t - apart)
        score = (z - mean_t) / std_t
        # s_t² - s_r² = (t - r) (-(2 - t - r) S² + t + r), so that no digits are lost where r is near t
        stretch = (-(2 - 2 * t + apart) * S**2 + 2 * t - apart) / (std_t + std_r)
        return self.slope * (-M + stretch * score) + self.shift


def mean_flow(space: Space | None = None, **config: Any) -> MeanFlow:
    return MeanFlow(space or Space.continuous((1,)), MeanFlow.Config(width=8, **config)).double()


def knowing(space: Space | None = None, **config: Any) -> MeanFlow:
    model = mean_flow(space, **config)
    model.network = Optimal()  # type: ignore[assignment]
    return model


def some_times(n: int) -> tuple[Tensor, Tensor]:
    both = torch.rand(n, 2, dtype=torch.float64).sort(1).values
    return both[:, 0], both[:, 1]


def test_answer_keeps_the_identity() -> None:
    """u = v - (t - r) du/dt with the velocity of z_t itself, at any z, r and t; a wrong sign is off by twice that."""
    model, z = knowing(), torch.randn(50, 1, dtype=torch.float64)
    r, t = some_times(50)
    v = model.average_velocity(z, t, t).detach()
    torch.testing.assert_close(model.error(z, r, t, v).detach(), torch.zeros_like(z), rtol=0, atol=1e-12)
    assert (model.average_velocity(z, r, t) - v).abs().mean() > 0.05


def test_answers_velocity_is_flow_matchings() -> None:
    """At r = t, against the velocity that least squares gives, E[eps - x_0 | z_t]."""
    z, t = torch.randn(20, 1, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    variance = moments(over(t, z))[1] ** 2
    expected = -M + (over(t, z) - (1 - over(t, z)) * S**2) / variance * (z - (1 - over(t, z)) * M)
    torch.testing.assert_close(knowing().average_velocity(z, t, t), expected)


def test_loss_has_its_least_at_the_answer() -> None:
    """A pair's v stands for that of z_t, about which it is distributed evenly: the gradient is zero on average."""
    model, gradients = knowing(apart=0.75), []
    network = model.network
    for _ in range(60):
        loss = model.loss(M + S * torch.randn(2000, 1, dtype=torch.float64)).mean()
        gradients.append(torch.stack(torch.autograd.grad(loss, [network.slope, network.shift])))
    drawn = torch.stack(gradients)
    assert (drawn.mean(0).abs() < 4 * drawn.std(0) / 60**0.5).all()
    for wrong, sign in ((0.7, -1), (1.3, 1)):
        with torch.no_grad():
            network.slope.fill_(wrong)
        loss = model.loss(M + S * torch.randn(50_000, 1, dtype=torch.float64)).mean()
        assert sign * torch.autograd.grad(loss, network.slope)[0] > 0.02


def test_gradient_is_that_of_the_weighted_squares() -> None:
    """w = 1 / (||.||² + c)^(1/2), held fixed (equation 22 with p = 1/2)."""
    torch.manual_seed(0)
    model, x = mean_flow(Space.continuous((2,))), torch.randn(16, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    weights = list(model.parameters())
    torch.manual_seed(1)
    found = torch.autograd.grad(model.loss(x).mean(), weights)
    torch.manual_seed(1)
    r, t = model.times(x)
    eps = torch.randn_like(x)
    squares = model.error(model.path.corrupt(x, eps, t), r, t, eps - x).square().sum(1)
    expected = torch.autograd.grad((squares / (squares.detach() + SMALLEST).sqrt()).mean(), weights)
    torch.testing.assert_close(found, expected)


def test_derivative_runs_along_the_path_and_takes_no_gradient() -> None:
    """Against differences, and the error's own gradient against that of u alone."""
    torch.manual_seed(0)
    model, z = mean_flow(Space.continuous((2,))), torch.randn(6, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    (r, t), v, h = some_times(6), torch.randn_like(z), 1e-6
    ahead, behind = (model.average_velocity(z + k * h * v, r, t + k * h) for k in (1, -1))
    target = v - over(t - r, v) * (ahead - behind) / (2 * h)
    u = model.average_velocity(z, r, t)
    error = model.error(z, r, t, v)
    torch.testing.assert_close(error, (u - target).detach(), rtol=1e-5, atol=1e-5)
    weights = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(error.sum(), weights), torch.autograd.grad(u.sum(), weights))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_number_of_steps_is_the_exact_flow(steps: int) -> None:
    noise = streams(6, 0).normal((2,)).double()
    model = knowing(Space.continuous((2,)), sampling_steps=steps)
    torch.testing.assert_close(model.sample(6, seed=0), M + S * noise)
    assert [state.sampling_step for state in model.trajectory(6, seed=0)] == list(range(1, steps + 1))


def test_solvers_follow_its_velocity_and_so_does_the_density() -> None:
    model, x = knowing(Space.continuous((2,))), torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(diffusion.sample(model, 6, seed=0), model.sample(6, seed=0), atol=5e-3, rtol=0)
    found = flow_density.log_prob(model, x, ode=flow_density.ODE(tolerance=1e-5))
    torch.testing.assert_close(found, Normal(M, S).log_prob(x).sum(1), atol=1e-4, rtol=0)


def test_times_are_in_order_and_as_often_apart_as_asked() -> None:
    r, t = mean_flow(apart=0.3).times(torch.zeros(40_000, 1, dtype=torch.float64))
    assert ((r <= t) & (r >= 0) & (t <= 1)).all()
    assert (r < t).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert t.mean().item() == pytest.approx(2 / 3, abs=0.01)  # of the greater of two uniform numbers


def test_constants_are_the_papers_and_times_are_slowed_to_a_hundredth() -> None:
    """Section 4.3: c = 1e-3; table 1a: a quarter of the pairs of times apart."""
    model, seen = mean_flow(Space.continuous((2,))), []
    assert (SMALLEST, model.config.apart) == (1e-3, 0.25)
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    r, t = some_times(4)
    model.average_velocity(torch.randn(4, 2, dtype=torch.float64), r, t)
    torch.testing.assert_close(seen[0], torch.stack([t, t - r], 1) / 100)


def test_without_times_apart_it_is_flow_matching() -> None:
    """||v(x_t, t) - (eps - x_0)||, twice."""
    model, x = mean_flow(Space.continuous((2,)), apart=0.0), torch.randn(8, 2, dtype=torch.float64)
    with torch.no_grad():
        model.network.body.head.weight.normal_()
    torch.manual_seed(2)
    found = model.loss(x)
    torch.manual_seed(2)
    _, t = model.times(x)
    eps = torch.randn_like(x)
    v = model.average_velocity(model.path.corrupt(x, eps, t), t, t)
    torch.testing.assert_close(found, 2 * ((v - (eps - x)).square().sum(1) + SMALLEST).sqrt())


def test_images_have_a_forward_derivative_and_are_measured_without_gradients() -> None:
    model = MeanFlow(Space.levels((1, 6, 6), 17), MeanFlow.Config(width=8, apart=1.0))
    x = torch.randint(17, (3, 1, 6, 6), dtype=torch.uint8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.manual_seed(1)
    expected = model.loss(x)
    torch.manual_seed(1)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(x), expected)


@pytest.mark.slow
def test_trained_it_samples_in_one_step() -> None:
    """Where one step of a flow makes the mean of all data."""
    import dgm

    data, found = dgm.data.load("toy/moons"), {}
    for name, config in (("mean_flow", {}), ("flow_matching", {"solver": "euler", "sampling_steps": 1})):
        torch.manual_seed(0)
        model = dgm.create(name, data.space, **config)
        list(dgm.fit(model, data, steps=1500))
        found[name] = (model.sample(2000, seed=0).double().std(0) - data.test.x.double().std(0)).abs().max().item()
    assert found["mean_flow"] < 0.15 < 0.4 < found["flow_matching"]
