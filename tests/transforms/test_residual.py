"""Residual maps: the estimates of the log-determinant and of its gradient against the exact ones; norms of layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm.errors import BadInput
from dgm.networks.lipschitz import LipSwish, contractive, lipschitz
from dgm.registry import create
from dgm.space import Space
from dgm.transforms import Residual
from dgm.transforms import residual as module

D = 3


def residual(*, exact: bool, gain: float = 30.0) -> Residual:
    """A map whose layers are all at their bound, so that many terms of the series count."""
    torch.manual_seed(0)
    network = lipschitz([D, 8, D], (), 0.97).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(gain if parameter.ndim == 2 else 1.0)
    return Residual(network, exact=exact)


@pytest.mark.parametrize("training", [False, True])
def test_the_roulette_is_unbiased(training: bool) -> None:
    """The mean of draws for a matrix against its log-determinant, within four standard errors.

    Kills: a sign of the series, 1 / k left out, P(N >= k) off by one term, the probe once.
    """
    torch.manual_seed(0)
    matrix = 0.7 * torch.eye(D).double() + torch.randn(D, D).double() / 15
    estimating = Residual(nn.Linear(D, D).double(), exact=False).train(training)
    with torch.no_grad():
        estimating.network.weight.copy_(matrix)  # type: ignore[union-attr]
        expected = torch.linalg.slogdet(torch.eye(D) + matrix)[1].item()
        means = torch.stack(
            [estimating(torch.zeros(32, D).double())[1].mean() for _ in range(600 if training else 100)]
        )
    error = float(means.std()) / math.sqrt(len(means))  # the 32 have one number of terms
    assert means.mean().item() == pytest.approx(expected, abs=4 * error)
    assert error < 0.02 < 0.02 * expected


def test_the_gradient_is_unbiased() -> None:
    """The Neumann series against the gradient of the exact log-determinant, of weights and of x.

    Kills: its signs, the term k = 0, the probability of the value's series, a gradient that is half.
    """
    exact, estimating = residual(exact=True), residual(exact=False).train()
    estimating.load_state_dict(exact.state_dict())
    x = torch.randn(1, D, dtype=torch.float64)

    def gradients(of: Residual, n: int) -> Tensor:
        at = x.expand(n, D).clone().requires_grad_()
        ladj = of(at)[1].mean()
        found = torch.autograd.grad(ladj, [at, *(p for p in of.parameters() if p.ndim == 2)])
        return torch.cat([found[0].sum(0), *(g.flatten() for g in found[1:])])

    expected = gradients(exact, 1)
    draws = torch.stack([gradients(estimating, 16) for _ in range(200)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() < 5 * error + 1e-9).all()
    assert (expected.abs() > 10 * error).any()


def test_the_gradient_of_a_slow_series_is_unbiased_and_the_value_is_that_without_one() -> None:
    """d/dW log det(I + W) = (I + W)^-T, where terms beyond those that are always summed are a fifth of it.

    Kills: P(N >= k) left out of the gradient's series, 1 / k in it, the gradient's part added to the value.
    """
    torch.manual_seed(0)
    matrix = -0.55 * torch.eye(D).double() + torch.randn(D, D).double() / 30
    estimating, x = Residual(nn.Linear(D, D).double(), exact=False).train(), torch.zeros(32, D).double()
    weight: Any = estimating.network.weight
    with torch.no_grad():
        weight.copy_(matrix)
    draws = torch.stack([torch.autograd.grad(estimating(x)[1].mean(), weight)[0] for _ in range(300)])
    error = draws.std(0) / math.sqrt(len(draws))
    expected = torch.linalg.inv(torch.eye(D) + matrix).mT
    assert ((draws.mean(0) - expected).abs() < 5 * error).all()
    assert error.max() < 0.03 * expected.max()
    torch.manual_seed(1)
    tracked = estimating(x)[1].detach()
    torch.manual_seed(1)
    with torch.no_grad():
        torch.testing.assert_close(tracked, estimating(x)[1])


def test_the_number_of_terms_is_geometric() -> None:
    torch.manual_seed(0)
    n = torch.tensor([module.geometric(0.5) for _ in range(4000)])
    for k in range(1, 4):
        assert (n >= k).double().mean().item() == pytest.approx(0.5**k, abs=4 * math.sqrt(0.25 / 4000))


def test_a_matrix_has_its_norm_at_most() -> None:
    layer: Any = contractive(5, 7, (), 0.9)
    original = layer.parametrizations.weight.original
    with torch.no_grad():
        original.mul_(20)
        jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(5))
        assert torch.linalg.matrix_norm(jacobian, 2).item() == pytest.approx(0.9, abs=1e-5)
        original.mul_(1e-3)
        jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(5))
        torch.testing.assert_close(jacobian, original)


def test_a_convolution_has_its_norm_at_most() -> None:
    """The largest singular value of the whole map; the power method may stop a little below. Kills: the norm of the
    flattened kernel, which is smaller.
    """
    torch.manual_seed(0)
    layer: Any = contractive(2, 4, (5, 6), 0.9)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(20)
        jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(1, 2, 5, 6)).reshape(120, 60)
    assert 0.899 < torch.linalg.matrix_norm(jacobian, 2).item() < 0.9 * 1.03


def test_activations_are_between_the_layers() -> None:
    """Kills: one before the first layer or after the last one."""
    parts: Any = lipschitz([2, 8, 8, 2], (), 0.9)
    assert [isinstance(part, LipSwish) for part in parts] == [False, True, False, True, False]


def test_lipswish_is_at_most_one_steep() -> None:
    swish, x = LipSwish().double(), torch.linspace(-200, 200, 20_001, dtype=torch.float64, requires_grad=True)
    for beta in (-3.0, 0.5, 4.0):
        with torch.no_grad():
            swish.beta.fill_(beta)
        (slope,) = torch.autograd.grad(swish(x).sum(), x)
        assert 0.9 < slope.abs().max().item() <= 1


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_an_inverse_ends_at_its_rounding(precision: torch.dtype) -> None:
    """Of numbers of different sizes, whose small ones have the rounding of the large ones; each example alone.

    Kills: a change that is relative to each number, which never becomes small enough; an example that ends with others.
    """
    torch.manual_seed(0)
    turn = Residual(nn.Linear(6, 6), exact=True).to(precision)
    with torch.no_grad():
        turn.network.weight.copy_(0.9 * torch.linalg.qr(torch.randn(6, 6))[0])  # type: ignore[union-attr]
        z = torch.randn(300, 6).to(precision) * torch.tensor([30.0, 1, 1, 1, 1, 1]).to(precision)
        x, _ = turn.inverse(z)
        size = 1 + x.norm(dim=1, keepdim=True)
        assert ((turn(x)[0] - z).abs() / size).max() < 64 * torch.finfo(precision).eps
        alone = torch.cat([turn.inverse(part)[0] for part in z[:5].split(1)])
        # to the rounding of other products of matrices, ten times as much by the inverse of 1 - 0.9
        torch.testing.assert_close(alone, x[:5], rtol=0, atol=2000 * torch.finfo(precision).eps)


def test_an_image_is_squeezed_in_the_middle_of_the_blocks() -> None:
    """Kills: all blocks at one resolution; no actnorm before a block."""
    flow: Any = create("residual_flow", Space.continuous((1, 4, 4)), blocks=5, hidden=4)
    block = ["ActNorm", "Residual"]
    assert [type(part).__name__ for part in flow.transform] == ["Scaled", *block * 2, "Squeeze", *block * 3, "Inverse"]


def test_an_expansion_is_no_inverse() -> None:
    twice = Residual(nn.Linear(1, 1), exact=True)
    with torch.no_grad():
        twice.network.weight.fill_(-3.0)  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="does not converge"):
        twice.inverse(torch.ones(1, 1))
