"""Networks on columns beside the same layers and autodiff."""

from __future__ import annotations

import torch

from dgm.contracts import perturbed
from dgm.networks.columns import PART, ColumnMLP


def test_a_network_on_columns_has_the_values_and_gradients_of_its_layers() -> None:
    """Also after other passes, which use the same memory. Kills: units kept for the gradient in memory that is used
    again, a part of the examples left out, a gradient without its ReLU.
    """
    first, second = (perturbed(ColumnMLP([3, 128, 160, 4])).double() for _ in range(2))
    x = torch.randn(3, PART + 88, dtype=torch.float64, requires_grad=True)
    for network in (first, second):
        assert network.large
    out = first(x)
    with torch.no_grad():
        torch.testing.assert_close(first(x), out)
    g = torch.randn_like(out)
    torch.autograd.grad(second(x), x, g)
    expected = x.mT
    for layer in first:
        expected = torch.relu(expected) if isinstance(layer, torch.nn.ReLU) else layer(expected)
    torch.testing.assert_close(out, expected.mT)
    inputs = [x, *first.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(out, inputs, g), torch.autograd.grad(expected.mT, inputs, g), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
