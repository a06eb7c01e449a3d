"""Divergences against autodiff's Jacobian, and their integral along a linear flow."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dgm.samplers.change_of_variables import integrated_divergence, with_divergence

GENERATOR = torch.Generator().manual_seed(0)
A = torch.randn(4, 4, dtype=torch.float64, generator=GENERATOR)
X = torch.randn(3, 4, dtype=torch.float64, generator=GENERATOR)
T = torch.tensor(0.5, dtype=torch.float64)


def field(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x @ A) * t + x.square()


def jacobian_trace(x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda x: field(x[None], T)[0], x).trace()


def test_exact_divergence_is_the_jacobians_trace() -> None:
    velocity, divergence = with_divergence(field, X, T)
    torch.testing.assert_close(velocity, field(X, T))
    torch.testing.assert_close(divergence, torch.stack([jacobian_trace(x) for x in X]))


def test_stochastic_divergence_is_unbiased() -> None:
    """Over all 16 sign vectors, which is what a Rademacher probe averages over."""
    probes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    drawn = torch.stack([with_divergence(field, X, T, probe.expand_as(X))[1] for probe in probes])
    torch.testing.assert_close(drawn.mean(0), with_divergence(field, X, T)[1])
    assert drawn.std(0).min() > 0


def test_linear_flow_integrates_to_trace_and_exponential() -> None:
    """Within what the tolerance allows, and finer where it is."""
    ends = torch.linspace(0, 1, 2, dtype=torch.float64)
    errors = []
    for tolerance in (1e-3, 1e-7):
        with torch.no_grad():
            x, divergence = integrated_divergence(lambda x, t, _: x @ A * 2 * t[:, None], X, *ends, tolerance=tolerance)
        errors.append(max((divergence - A.trace()).abs().max(), (x - X @ torch.matrix_exp(A)).abs().max()).item())
    assert 1e-6 < errors[0] < 1e-2
    assert errors[1] < 1e-6


def test_each_example_keeps_its_own_field_and_probe_when_others_have_ended() -> None:
    """dx/dt = c_i x A, whose divergence under the probe e_i is c_i e_i A e_i^T. The first ends first, by far."""
    c, ends = torch.tensor([0.01, 1.0, 4.0], dtype=torch.float64), torch.linspace(0, 1, 2, dtype=torch.float64)
    probes = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1]], dtype=torch.float64)
    expected = torch.stack([x @ torch.matrix_exp(by * A) for x, by in zip(X, c, strict=True)])
    for probe, divergence in ((None, c * A.trace()), (probes, c * ((probes @ A.T) * probes).sum(1))):
        found = integrated_divergence(lambda x, _, rows: c[rows, None] * (x @ A), X, *ends, probe, tolerance=1e-8)
        torch.testing.assert_close(found, (expected, divergence), rtol=1e-5, atol=1e-6)
