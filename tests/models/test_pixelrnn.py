"""Pixel RNN: what each cell sees, by autodiff, the skewed map, and the states that are kept."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch.nn.functional import conv1d, conv2d, pad

from dgm import contracts
from dgm.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM, cell
from dgm.networks.raster import raster_order, to_sequence
from dgm.samplers import sequential
from dgm.space import Space


def model(space: Space, kind: str, layers: int = 2, condition: Space | None = None) -> PixelRNN:
    return contracts.perturbed(PixelRNN(space, PixelRNN.Config(cell=kind, width=6, layers=layers), condition))


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
def test_the_jacobian_in_colour_is_strictly_lower_triangular(kind: str) -> None:
    """Kills: a mask of another channel, a right map that is not moved down."""
    space = Space.levels((3, 3, 3), 5)
    rnn = model(space, kind)
    x = (4 * torch.rand(16, 3, 3, 3)).requires_grad_()  # many, for a rectifier hides what it closes on
    outputs = to_sequence(rnn.conditionals(x), space).sum((0, 2))
    gradients = [torch.autograd.grad(output, x, retain_graph=True)[0] for output in outputs]
    jacobian = torch.stack([to_sequence(gradient, space).abs().sum(0) for gradient in gradients])
    assert not jacobian.triu().any()
    assert jacobian[torch.ones(27, 27).tril(-1).bool()].min() > 0, "a dimension does not see all of its past"


SPACES = [
    Space.binary((1, 5, 3)),
    Space.levels((3, 3, 4), 5),
    Space.binary((1, 1, 6)),
    Space.continuous((2, 3, 3), loc=tuple(range(18)), scale=(0.5, 1, 2) * 6),
]


@pytest.mark.parametrize("kind", ["row", "diagonal"])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_kept_states_are_the_whole(kind: str, space: Space) -> None:
    """Kills: a state of this row in the place of one above, a right map of the wrong row."""
    rnn = model(space, kind, condition=Space.categories(3)).double()
    x, y = contracts.random_examples(space, 4), torch.tensor([0, 1, 2, 1])
    parallel, read = to_sequence(rnn.conditionals(x, y), space), torch.zeros_like(x)
    with torch.no_grad():
        for i, (dim, outputs) in enumerate(zip(raster_order(space), rnn.sequential_conditionals(read, y), strict=True)):
            assert torch.allclose(outputs, parallel[:, i], atol=1e-10)
            read.view(4, -1)[:, dim] = x.flatten(1)[:, dim]


@pytest.mark.parametrize("kind", ["row", "diagonal"])
@pytest.mark.parametrize("space", SPACES[:2], ids=str)
def test_a_sample_is_the_same_with_and_without_kept_states(kind: str, space: Space) -> None:
    rnn = model(space, kind)
    kept, naive = (list(sequential.trajectory(rnn, 3, seed=2, cached=cached))[-1].x for cached in (True, False))
    assert torch.equal(kept, naive)


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_a_label_shifts_every_conditional(kind: str) -> None:
    rnn, x = model(SPACES[0], kind, condition=Space.categories(2)), torch.zeros(1, 1, 5, 3, dtype=torch.uint8)
    zero, one = (rnn.conditionals(x, torch.tensor([y])) for y in (0, 1))
    assert (zero != one).all()


def test_the_cell_is_torchs() -> None:
    """Kills: gates exchanged. torch orders them i, f, g, o."""
    theirs, x, h, c = torch.nn.LSTMCell(5, 4), torch.randn(3, 5), torch.randn(3, 4), torch.randn(3, 4)
    sums = x @ theirs.weight_ih.T + theirs.bias_ih + h @ theirs.weight_hh.T + theirs.bias_hh
    i, f, g, o = sums.chunk(4, -1)
    for ours, expected in zip(cell(torch.cat([o, f, i, g], -1), c), theirs(x, (h, c)), strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (5, 3), (1, 4), (4, 1)])
def test_diagonals_are_the_recursion_pixel_by_pixel(rows: int, columns: int) -> None:
    """Section 3.2 written out. Kills: above and beside exchanged, the second direction not mirrored or not moved."""
    layer, x = DiagonalBiLSTM(3, 1), torch.randn(2, 6, rows, columns)
    total = torch.zeros(2, 3, rows, columns)
    for direction, (entrance, reading) in enumerate(
        ((layer.from_left, range(columns)), (layer.from_right, range(columns - 1, -1, -1)))
    ):
        inputs = entrance(x)
        h = defaultdict(lambda: torch.zeros(2, 3))  # 0 outside of the image
        c = defaultdict(lambda: torch.zeros(2, 3))
        for i in range(rows):
            for j in reading:
                beside, above = (i, j - 1 if direction == 0 else j + 1), (i - 1, j)
                gates = inputs[:, :, i, j] + torch.cat([h[beside], h[above]], 1) @ layer.state_to_state[direction]
                h[i, j], c[i, j] = cell(gates, c[beside])
                if direction == 0:
                    total[:, :, i, j] += h[i, j]
                elif i + 1 < rows:
                    total[:, :, i + 1, j] += h[i, j]
    assert torch.allclose(layer(x), total, atol=1e-5)


def test_rows_are_the_recursion_row_by_row() -> None:
    """Section 3.1 written out, with the columns of the kernel that the mask leaves: the pixel's own and its left."""
    layer, x = RowLSTM(3, 1), torch.randn(2, 6, 4, 5)
    inputs = conv2d(pad(x, (1, 0)), layer.input_to_state.weight, layer.input_to_state.bias)
    h = c = torch.zeros(2, 3, 5)
    for i in range(4):
        gates = inputs[:, :, i] + conv1d(h, layer.state_to_state.weight, padding=1)
        h, c = (part.mT for part in cell(gates.mT, c.mT))
        assert torch.allclose(layer(x)[:, :, i], h, atol=1e-5)
