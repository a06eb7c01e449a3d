"""Masked autoregressive transforms: what each output reads, the inverse from the tails, its gradients, and parity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dgm.contracts import perturbed
from dgm.networks.masked_mlp import MaskedMLP
from dgm.transforms import Affine, Autoregressive, Composition, Permutation


def flow_of(dim: int, layers: int = 3, context: int = 0, size: int | None = None) -> Composition:
    reverse = list(range(dim))[::-1]
    parts = [
        (Autoregressive(dim, hidden=[32, 32], context=context, size=size), Permutation(reverse)) for _ in range(layers)
    ]
    return perturbed(Composition([part for pair in parts for part in pair]))  # type: ignore[return-value]


@pytest.mark.parametrize(("dim", "context"), [(5, 0), (5, 2), (40, 0), (1, 3)])
def test_an_output_reads_the_dimensions_before_it_and_the_condition(dim: int, context: int) -> None:
    """All of them, and no other. Kills: >= for > in the last mask, degrees from 1 under a condition."""
    network = perturbed(MaskedMLP(dim, 2, [64, 64], context)).double()
    for parameter in network.parameters():
        parameter.data.abs_()  # so that each ReLU passes what it reads
    x, c = torch.rand(dim, dtype=torch.float64), torch.rand(context, dtype=torch.float64)
    of_x, of_c = torch.autograd.functional.jacobian(lambda x, c: network(x[:, None], c[None])[..., 0], (x, c))
    assert torch.equal((of_x != 0).any(1), torch.ones(dim, dim).tril(-1).bool())
    assert (of_c != 0).all()


@pytest.mark.parametrize("context", [0, 3])
def test_a_network_in_blocks_is_the_dense_one(context: int) -> None:
    """With all its gradients, against autodiff. Kills: blocks that leave out a column or a row, a ReLU without one."""
    network = perturbed(MaskedMLP(43, 6, [200, 256], context)).double()
    assert network.large
    blocks = network.layers[-1].product
    assert sum(rows * end for rows, end in zip(blocks.rows, blocks.ends, strict=True)) < 0.72 * 258 * 256
    x, c = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((43, 5), (5, context)))
    inputs = [x, *([c] if context else []), *network.parameters()]
    out = network(x, c if context else None)
    g = torch.randn_like(out)
    found = torch.autograd.grad(out, inputs, g)
    network.large = False
    dense = network(x, c if context else None)
    torch.testing.assert_close(out, dense)
    for ours, expected in zip(found, torch.autograd.grad(dense, inputs, g), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("dim", [2, 6, 43])
def test_an_affine_layer_has_the_values_and_gradients_of_its_parts(dim: int, context: int) -> None:
    """Of x, the condition and each weight, against autodiff. Kills: a gradient of log-scales without its bound, the
    direct part of the gradient of x left out, gradients of s and t exchanged, zeros of a mask that are no longer there
    in units with other degrees.
    """
    layer = perturbed(Autoregressive(dim, Affine(2.0), hidden=[256, 128], context=context)).double()
    x, c = (torch.randn(5, n, dtype=torch.float64, requires_grad=True) for n in (dim, context))
    inputs = [x, *([c] if context else []), *layer.parameters()]
    assert layer.network.written_out(x)
    found = layer(x, c if context else None)
    layer.network.large = False
    expected = layer(x, c if context else None)
    g = [torch.randn_like(one) for one in expected]
    pairs = zip(
        (*found, *torch.autograd.grad(found, inputs, g)),
        (*expected, *torch.autograd.grad(expected, inputs, g)),
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("dim", "size"), [(2, None), (30, None), (30, 8), (30, 30)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_inverse_holds_far_in_the_tails(dim: int, size: int | None, dtype: torch.dtype, tolerance: float) -> None:
    """From base samples 10 standard deviations out, and forth. In float32 relative to the values, which are large."""
    flow, z = flow_of(dim, size=size).to(dtype), 10 * torch.randn(64, dim, dtype=dtype).sign()
    x, ladj = flow.inverse(z)
    back, minus_ladj = flow(x)
    torch.testing.assert_close(back, z, rtol=0, atol=tolerance)
    torch.testing.assert_close(minus_ladj, -ladj, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(flow.inverse(back)[0], x, rtol=tolerance, atol=tolerance)


def test_an_inverse_whose_iterates_overflow_ends_at_the_solution() -> None:
    """s_2 = 800 x_1 and s_3 = -800 x_2: the second iterate of x_3 is infinite. Kills: iterates that are not clamped."""
    layer = Autoregressive(4, Affine(math.inf), hidden=[3], size=4).double()
    first, last = layer.network.layers
    first.weight.data.copy_(torch.eye(3, 4))
    first.bias.data.zero_()
    last.weight.data[2, 0], last.weight.data[4, 1] = 800, -800
    x = torch.full((2, 4), 0.1, dtype=torch.float64)
    z, ladj = layer(x)
    assert z[0].tolist() == pytest.approx([0.1, 0.1 * math.exp(80), 0.1 * math.exp(-80), 0.1])
    back, minus_ladj = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(minus_ladj, -ladj, rtol=0, atol=1e-10)


def test_gradients_of_the_inverse_are_those_of_finite_differences() -> None:
    """With respect to z, the condition and the weights. Kills: a sign, J for J^T, no slopes, an iteration too few."""
    layer = perturbed(Autoregressive(10, hidden=[24], context=2)).double()
    z, c = (torch.randn(2, size, dtype=torch.float64, requires_grad=True) for size in (10, 2))
    names = [name for name, _ in layer.named_parameters()]

    def inverse(z: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        of_layer = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(Inverted(layer), {f"layer.{n}": w for n, w in of_layer.items()}, (z, c))

    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    # kinks of ReLU within the step would show as errors of its size
    assert torch.autograd.gradcheck(inverse, (z, c, *weights), eps=1e-7, atol=1e-5, fast_mode=True)


class Inverted(nn.Module):
    def __init__(self, layer: Autoregressive) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.inverse(z, c)


def test_a_log_scale_is_bounded_and_starts_with_slope_one() -> None:
    a = torch.tensor([0.0, 1e-4, -1e-4, 1e6, -1e6], dtype=torch.float64)
    _, slope = Affine(2.0).forward(torch.ones(5), torch.stack([a, a]))
    assert slope.tolist() == pytest.approx([0, 1e-4, -1e-4, 2, -2], rel=1e-4)
    z, _ = Affine(2.0).forward(torch.full((1,), 3.0), torch.tensor([[2.0], [0.5]]))
    assert z.item() == pytest.approx(3 * math.e + 0.5)


def test_an_untrained_transform_is_the_identity() -> None:
    x = torch.randn(4, 6)
    z, ladj = Autoregressive(6)(x)
    assert torch.equal(z, x)
    assert not ladj.any()


def test_a_gradient_of_the_inverse_passes_through_a_chain_of_all_dimensions() -> None:
    """z_d = x_d + 2 x_{d-1}, so that dx_i / dz_j = (-2)^(i - j). Kills: iterations that end before the D-th."""
    dim = 7
    layer = Autoregressive(dim, hidden=[dim - 1]).double()
    first, last = layer.network.layers
    first.weight.data.copy_(torch.eye(dim - 1, dim))
    first.bias.data.zero_()
    for d in range(1, dim):
        last.weight.data[2 * d + 1, d - 1] = 2
    z, _ = layer(torch.ones(1, dim, dtype=torch.float64))
    found = torch.autograd.functional.jacobian(lambda z: layer.inverse(z)[0][0], z)[:, 0]
    expected = [[(-2.0) ** (i - j) if i >= j else 0.0 for j in range(dim)] for i in range(dim)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
