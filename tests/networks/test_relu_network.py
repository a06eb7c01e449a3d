"""Networks on columns beside the same layers and autodiff."""

from __future__ import annotations

import pytest
import torch

from dgm.contracts import perturbed
from dgm.networks.columns import PART, ROWS, ColumnMLP, blocks, relu_network, staircase
from dgm.networks.masked_mlp import ALIGNED, MaskedLinear, degrees


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


def test_a_conditions_part_has_the_value_and_the_gradient_of_a_sum() -> None:
    """W_2 relu(W_1 x + b_1 + c) + b_2 by autodiff. Kills: a gradient of c after another layer, or of the units."""
    network = perturbed(ColumnMLP([3, 128, 160, 4])).double()
    x, c = (torch.randn(rows, 9, dtype=torch.float64, requires_grad=True) for rows in (3, 128))
    parameters = list(network.parameters())
    found = relu_network(x, network.products, parameters, c)
    (w_1, b_1, w_2, b_2, w_3, b_3), g = parameters, torch.randn_like(found)
    h = torch.relu(w_2 @ torch.relu(w_1 @ x + b_1[:, None] + c) + b_2[:, None])
    expected = w_3 @ h + b_3[:, None]
    torch.testing.assert_close(found, expected)
    inputs = [x, c, *parameters]
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("sizes", [(6, 5), (3 * ROWS, 2 * ROWS + 9)])
def test_products_of_a_masked_matrix_read_no_weight_that_is_masked(sizes: tuple[int, int]) -> None:
    """Whatever the masked weights are. Kills: a product with W alone, in either direction or in the gradient."""
    rows, columns = (torch.randint(40, (n,)).sort().values for n in sizes)
    mask = (columns <= rows[:, None]).double()
    product, w = staircase(rows, columns, mask), torch.randn(sizes, dtype=torch.float64)
    b, h, g = (torch.randn(*shape, dtype=torch.float64) for shape in ((sizes[0],), (sizes[1], 4), (sizes[0], 4)))
    masked = product.masked(w)
    torch.testing.assert_close(product.affine(masked, b, h, torch.empty_like(g)), (w * mask) @ h + b[:, None])
    torch.testing.assert_close(product.transposed_times(masked, g, torch.empty_like(h)), (w * mask).mT @ g)
    torch.testing.assert_close(product.outer(g, h), (g @ h.mT) * mask)


def test_blocks_have_a_fixed_size_and_degrees_change_between_them() -> None:
    """No block below half of `ROWS`, and as many units of a degree as before where a layer is narrow. Kills: a short
    last block, degrees that change elsewhere, a degree without units.
    """
    for n in (1, ROWS, ROWS + ROWS // 2, ROWS + ROWS // 2 + 1, 4 * ROWS):
        found = blocks(n)
        assert sum(found) == n
        assert len(found) == 1 + len(range(ROWS, n - ROWS // 2, ROWS))
        assert found[:-1] == [ROWS] * (len(found) - 1)
    for dim in (2, 3, 6, 43, 200):
        of_units = degrees(ALIGNED, 1, dim)
        assert of_units.unique().tolist() == list(range(1, dim))
        assert of_units.diff().min() >= 0
        if dim > 5:
            assert all(of_units[k] != of_units[k - 1] for k in range(ROWS, ALIGNED, ROWS))
    assert degrees(ALIGNED - 1, 1, 6).bincount().tolist() == [0, 51, 51, 51, 51, 51]


@pytest.mark.parametrize("lowest", [0, 1])
@pytest.mark.parametrize(("width", "dim"), [(1, 2), (2, 7), (5, 7), (6, 7), (7, 7), (20, 7)])
def test_degrees_go_evenly_from_the_lowest_to_the_last_but_one(width: int, dim: int, lowest: int) -> None:
    """As many units of each in wide layers, equal gaps in narrow ones. Kills: a degree below the lowest."""
    found = degrees(width, lowest, dim)
    assert lowest <= found.min() <= found.max() <= dim - 1
    counts = found.bincount(minlength=dim)[lowest:]
    assert counts.max() - counts.min() <= 1
    if width < dim - lowest:
        gaps = found.diff(prepend=torch.tensor([lowest - 1]))
        assert gaps.max() - gaps.min() <= 1
        assert found[-1] == dim - 1


@pytest.mark.parametrize("to", [torch.float64, torch.bfloat16, "meta"])
def test_a_masked_product_follows_the_weights(to: torch.dtype | str) -> None:
    """Kills: a mask of the dtype and the device at which the layer was made."""
    layer = MaskedLinear(torch.arange(4 * ROWS), torch.arange(4 * ROWS)).to(to)
    mask = layer.product.mask
    assert mask is layer.mask
    assert (mask.dtype, mask.device) == (layer.weight.dtype, layer.weight.device)
