"""FFJORD with a linear field, whose flow is a matrix exponential: codes, densities, traces and the path's penalties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from dgm.contracts import perturbed
from dgm.models.flow.ffjord import FFJORD, Velocity
from dgm.protocols import EstimatedLikelihood, ExactLikelihood, Invertible, has
from dgm.samplers.change_of_variables import divergence_and_norm
from dgm.space import Space

A = torch.tensor([[0.3, -0.8, 0.1], [0.5, -0.4, 0.2], [0.0, 0.3, 0.6]], dtype=torch.float64)
ROW = Space.continuous((3,), loc=(1.0, 0.0, -1.0), scale=(2.0, 1.0, 0.7))


class Linear(nn.Module):
    """v(z, t) = A z, for which z_1 = e^A x and the integral of the trace is tr A."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(A.clone())

    def forward(self, z: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        return z @ self.matrix.T

    def with_trace_and_norm(self, z: Tensor, t: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        trace, norm = self.matrix.trace(), self.matrix.square().sum()
        return self(z, t), trace.expand(len(z)), norm.expand(len(z))


def test_the_forward_trace_and_norm_are_those_of_autodiff() -> None:
    """Of a network that gates and shifts by the time and a condition, and of their gradients.

    Kills: a derivative without its gate or softplus, a transposed matrix, a norm of the diagonal alone.
    """
    network = Velocity([3, 8, 8, 3], 2, image=False).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    t, c = torch.rand(5, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    v, *found = network.with_trace_and_norm(z, t, c)
    torch.testing.assert_close(v, network(z, t, c))
    expected = divergence_and_norm(network(z, t, c), z, graph=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        inputs = [z, *network.layers[1].parameters()]
        gradients = [torch.autograd.grad(one.sum(), inputs, retain_graph=True) for one in (ours, theirs)]
        torch.testing.assert_close(*gradients)


def linear(space: Space = ROW, **settings: Any) -> FFJORD:
    flow = FFJORD(space, FFJORD.Config(hidden=8, tolerance=1e-8, ode_steps=12, **settings)).double().eval()
    flow.velocity = Linear()  # type: ignore[assignment]
    return flow


def test_the_density_is_that_of_the_matrix_exponential() -> None:
    """Of a linear field x is normal. Kills: the sign of the trace, time backwards, the scaling's log-determinant."""
    flow, x = linear(), torch.randn(5, 3, dtype=torch.float64)
    back = torch.linalg.matrix_exp(-A)
    scale, loc = torch.tensor(ROW.scale).double(), torch.tensor(ROW.loc).double()
    spread = scale[:, None] * back
    expected = MultivariateNormal(loc, spread @ spread.T).log_prob(x)
    with torch.no_grad():
        torch.testing.assert_close(
            flow.log_prob(x), expected, rtol=0, atol=1e-6
        )  # to a hundred times the solver's tolerance
    torch.testing.assert_close(flow.loss(x), -expected, rtol=0, atol=1e-4)  # to the error of 12 steps of order four


@pytest.mark.parametrize("image", [False, True])
def test_an_untrained_field_is_zero_whatever_the_time(image: bool) -> None:
    """So the flow starts at the identity. Kills: a last shift, or a last layer, that is not 0 at first."""
    field, z = Velocity([2, 8, 2], 1, image=image), torch.randn(4, 2, *([3, 3] if image else []))
    assert not field(z, torch.rand(4)).any()


def test_codes_and_samples_are_inverse_to_the_tolerance() -> None:
    flow, x = linear(), torch.randn(5, 3, dtype=torch.float64) * 10
    with torch.no_grad():
        z = flow.encode(x)
        scale, loc = torch.tensor(ROW.scale).double(), torch.tensor(ROW.loc).double()
        torch.testing.assert_close(z, ((x - loc) / scale) @ torch.linalg.matrix_exp(A).T, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(flow.decode(z), x, rtol=1e-6, atol=1e-6)


def test_a_field_in_time_inverts_in_the_tails() -> None:
    """Ten standard deviations out, from data and from the base, to a hundred times the solver's tolerance."""
    torch.manual_seed(0)
    flow = perturbed(FFJORD(Space.continuous((3,)), FFJORD.Config(hidden=8, tolerance=1e-6))).double()
    far = 10 * torch.randn(6, 3, dtype=torch.float64).sign() * torch.rand(6, 3, dtype=torch.float64)
    with torch.no_grad():
        assert ((flow.encode(flow.decode(far)) - far).abs() / (1 + far.abs())).max() < 1e-4
        assert ((flow.decode(flow.encode(far)) - far).abs() / (1 + far.abs())).max() < 1e-4


def test_the_trace_of_random_signs_is_unbiased() -> None:
    """Of a matrix that is not symmetric. Its kind of likelihood is an estimate; so is that of an image."""
    exact, flow = linear(), linear(trace="hutchinson")
    assert has(exact, ExactLikelihood, Invertible)
    assert not has(exact, EstimatedLikelihood)
    assert has(flow, EstimatedLikelihood)
    assert not has(flow, ExactLikelihood)
    assert not has(flow, Invertible)
    assert has(FFJORD(Space.continuous((1, 2, 2)), FFJORD.Config(hidden=8)), EstimatedLikelihood)
    with torch.no_grad():
        n, x = 400, torch.zeros(1, 3, dtype=torch.float64)
        draws = flow.log_prob_estimate(x.expand(n, 3))
        error = float(draws.std()) / math.sqrt(n)
        assert draws.mean().item() == pytest.approx(exact.log_prob(x).item(), abs=4 * error)
        assert 0.01 < error < 0.1


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_paths_penalties_are_their_integrals(trace: str) -> None:
    """int |A e^(At) z|² dt / D by a sum, and |A|_F² / D; the probe's norm has it as its mean.

    Kills: a norm that is no square, the penalties changed over, an integral over the dimensions.
    """
    n, z_0 = 2000 if trace == "hutchinson" else 1, torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    x = (z_0 * torch.tensor(ROW.scale) + torch.tensor(ROW.loc)).expand(n, 3)
    plain, kinetic, jacobian = (linear(trace=trace, **weights) for weights in ({}, {"kinetic": 2.0}, {"jacobian": 3.0}))
    times = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    energy = torch.stack([(A @ torch.linalg.matrix_exp(A * t) @ z_0[0]).square().sum() for t in times]).mean()

    def penalty(flow: FFJORD) -> Tensor:
        torch.manual_seed(0)
        with_it = flow.loss(x)
        torch.manual_seed(0)
        return (with_it - plain.loss(x)).detach()

    assert penalty(kinetic)[0].item() == pytest.approx(2 * energy.item() / 3, rel=1e-4)
    found = penalty(jacobian)
    error = float(found.std()) / math.sqrt(n) if n > 1 else 1e-6
    assert found.mean().item() == pytest.approx(3 * A.square().sum().item() / 3, abs=4 * error + 1e-8)


def test_the_gradient_of_the_loss_is_that_of_finite_differences() -> None:
    """Of the path's steps, with both penalties. Kills: a trace or a norm without a graph."""
    flow, x = linear(kinetic=0.5, jacobian=0.3), torch.randn(4, 3, dtype=torch.float64)
    matrix: Any = flow.velocity.matrix  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(flow.loss(x).sum(), matrix)
    direction, step = torch.randn(3, 3, dtype=torch.float64), 1e-5
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            matrix.copy_(A + sign * step * direction)
            ends.append(flow.loss(x).sum().item())
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
