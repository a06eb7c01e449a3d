"""Pixel RNN: what each cell sees, by autodiff, the skewed map, and the states that are kept."""

from __future__ import annotations

import pytest
import torch

from dgm import contracts
from dgm.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM, cell, skewed, straightened
from dgm.space import Space


def model(space: Space, kind: str, layers: int = 2) -> PixelRNN:
    return contracts.jolted(PixelRNN(space, PixelRNN.Config(cell=kind, width=6, layers=layers)))


def seen(kind: str, row: int, column: int, layers: int) -> torch.Tensor:
    x = torch.randn(1, 1, 8, 9, requires_grad=True)
    rnn = model(Space.continuous((1, 8, 9)), kind, layers)
    (gradient,) = torch.autograd.grad(rnn.conditionals(x)[0, 0, row, column].sum(), x)
    return gradient[0, 0] != 0


def test_a_diagonal_layer_sees_every_earlier_pixel() -> None:
    """But the last of the row above: no feature to its right has it, and the first convolution ends a column before."""
    earlier = (torch.arange(72) < 5 * 9 + 4).view(8, 9)
    earlier[4, 8] = False
    assert torch.equal(seen("diagonal", 5, 4, layers=1), earlier)


def test_a_row_layer_sees_a_triangle_and_no_later_pixel() -> None:
    """Each row up widens it by one; the first convolution adds three."""
    found = seen("row", 7, 4, layers=1)
    row, column = torch.meshgrid(torch.arange(8), torch.arange(9), indexing="ij")
    earlier = (torch.arange(72) < 7 * 9 + 4).view(8, 9)
    assert not (found & ~earlier).any()
    up = 7 - row
    # a state k rows up at most k columns aside, and from there the 7 x 7 mask up to three rows further
    reach = up.clamp_min(0) + 3
    assert not (found & ((column - 4) > reach)).any()
    assert found[(up >= 1) & ((column - 4).abs() <= up)].all()


@pytest.mark.parametrize("kind", ["row", "diagonal"])
@pytest.mark.parametrize("space", [Space.binary((1, 5, 3)), Space.levels((3, 3, 4), 5)], ids=str)
def test_kept_states_are_the_whole(kind: str, space: Space) -> None:
    """Kills: a state of this row in the place of one above, a right map that is not moved down."""
    rnn = model(space, kind)
    for law in (contracts.steps_are_the_conditionals, contracts.no_dimension_sees_its_future):
        result = contracts.run(law, rnn)
        assert result.passed, result.detail


def test_the_skewed_map_comes_back() -> None:
    x = torch.arange(12.0).view(1, 3, 4)
    assert skewed(x)[0].tolist() == [[0, 1, 2, 3, 0, 0], [0, 4, 5, 6, 7, 0], [0, 0, 8, 9, 10, 11]]
    assert torch.equal(straightened(skewed(x), 4), x)


def test_the_cell_is_torchs() -> None:
    """Kills: gates exchanged. torch orders them i, f, g, o."""
    theirs, x, h, c = torch.nn.LSTMCell(5, 4), torch.randn(3, 5), torch.randn(3, 4), torch.randn(3, 4)
    sums = x @ theirs.weight_ih.T + theirs.bias_ih + h @ theirs.weight_hh.T + theirs.bias_hh
    i, f, g, o = sums.chunk(4, -1)
    for ours, expected in zip(cell(torch.cat([o, f, i, g], -1), c), theirs(x, (h, c)), strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)


def test_diagonals_are_the_recursion_pixel_by_pixel() -> None:
    """Section 3.2 written out. Kills: above and beside exchanged, the second direction not mirrored."""
    layer, x = DiagonalBiLSTM(3, 1), torch.randn(2, 6, 4, 5)
    maps = []
    for k, (entrance, columns) in enumerate(((layer.from_left, range(5)), (layer.from_right, range(4, -1, -1)))):
        inputs, h, c = entrance(x), torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 5, 7)  # one more row and column each way
        for i in range(4):
            for j in columns:
                beside = (i + 1, j if k == 0 else j + 2)
                state = torch.cat([h[:, :, beside[0], beside[1]], h[:, :, i, j + 1]], 1)
                gates = inputs[:, :, i, j] + state @ layer.state_to_state[k]
                h = h.clone()
                h[:, :, i + 1, j + 1], new = cell(gates, c[:, :, beside[0], beside[1]])
                c = c.clone()
                c[:, :, i + 1, j + 1] = new
        maps.append(h[:, :, 1:, 1:6])
    expected = maps[0].clone()
    expected[:, :, 1:] += maps[1][:, :, :-1]
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_rows_are_the_recursion_row_by_row() -> None:
    layer, x = RowLSTM(3, 1), torch.randn(2, 6, 4, 5)
    inputs, h, c = layer.input_to_state(x), torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)
    for i in range(4):
        gates = inputs[:, :, i] + torch.nn.functional.conv1d(h, layer.state_to_state.weight, padding=1)
        h, c = (part.mT for part in cell(gates.mT, c.mT))
        assert torch.allclose(layer(x)[:, :, i], h, atol=1e-5)
