r"""Pixel RNN, exact log-likelihood.

.. math:: [o, f, i, g] = \sigma(K^{ss} * h_{prev} + K^{is} * x), \quad c = f \odot c_{prev} + i \odot g, \quad
    h = o \odot \tanh(c)

with a hyperbolic tangent in place of the sigmoid for g. A row LSTM processes the rows from top to bottom: the state of
a pixel depends on the three states above it, so its receptive field is a triangle. A diagonal BiLSTM processes the
diagonals, where the state of a pixel depends on those to its left and above, in both directions: together they have all
earlier pixels but one in their receptive field. The map from the right is shifted down by a row for causality, and
since no feature depends on its own pixel, the last pixel of the row above is only in that of the first convolution.

Source: Pixel recurrent neural networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), arXiv:1601.06759, equations 1
to 3, sections 3.1 to 3.3 and figures 2 to 4.
Differs from it: a condition shifts the first map; optionally a mixture of discretised logistics (``components``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, relu

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, cached
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.maps import of_pixel, per_channel
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space


class PixelRNN(ChainRule):
    """log p(x) in nats, of a probability on discrete images, of a density in the data's units otherwise.

    Args:
        space: Images (C, H, W).

    Example:
        >>> model = PixelRNN(Space.binary((1, 4, 4)), PixelRNN.Config(width=4, layers=1))
        >>> model.log_prob(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        cell: Literal["row", "diagonal"] = setting("diagonal", "which LSTM")
        width: int = setting(16, "h, hidden units; the residual stream has twice as many features", low=1)
        layers: int = setting(7, "LSTM layers", low=1, high=1000)
        head: int = setting(32, "features of the two last 1 x 1 convolutions", low=1)
        components: int = setting(0, "of discretised logistics; 0 is a softmax over all levels", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 16, "lr": 1e-3, "ema": 0.999, "clip": 1.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if len(space.shape) != 3:
            raise BadInput(f"pixelrnn takes images (C, H, W), got {space}", "use made for points and tables")
        self.observed = output_distribution(space, config.components)
        self.scaling = Scaling(space)
        channels, h = space.shape[0], config.width
        cell = RowLSTM if config.cell == "row" else DiagonalBiLSTM
        self.first = CausalConv2d(channels, 2 * h, 7, mask="A", channels=channels)
        self.read = None if condition is None else ConditionProjections(condition, space.shape[1:])
        self.condition_bias = None if self.read is None else self.read.projection(2 * h)
        self.lstms: Iterable[Any] = nn.ModuleList(cell(h, channels) for _ in range(config.layers))
        self.ups = nn.ModuleList(CausalConv2d(h, 2 * h, 1, mask="B", channels=channels) for _ in range(config.layers))
        self.hidden = CausalConv2d(2 * h, config.head, 1, mask="B", channels=channels)
        self.output = CausalConv2d(config.head, channels * self.observed.outputs, 1, mask="B", channels=channels)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        h = self.entered(self.first(self.scaling(x)), self.embedded(y))
        for lstm, up in zip(self.lstms, self.ups, strict=True):
            h = h + up(lstm(h))
        return self.left(h).unflatten(1, (self.space.shape[0], -1)).movedim(2, -1)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Every layer stores the states that later pixels need."""
        y, cursor, (channels, height, width) = self.embedded(y), Cursor(), self.space.shape
        network: Any = cached(self, PixelConv, len(x), (height, width), cursor)
        memories = [lstm.memory(len(x), width) for lstm in network.lstms]
        for cursor.row in range(height):
            for cursor.column in range(width):
                of_y = of_pixel(y, cursor.row, cursor.column)
                for c in range(channels):
                    h = network.entered(network.first(self.pixel(x, cursor)), of_y)
                    for lstm, memory, up in zip(network.lstms, memories, network.ups, strict=True):
                        h = h + up(lstm.step(h, memory, cursor.column))
                    yield network.left(h).unflatten(1, (channels, -1))[:, c]
                network.first.store(self.pixel(x, cursor))
            for lstm, memory in zip(network.lstms, memories, strict=True):
                lstm.end_row(memory)

    def pixel(self, x: Batch, cursor: Cursor) -> Tensor:
        return self.scaling(x)[:, :, cursor.row, cursor.column]

    def entered(self, h: Tensor, y: Tensor | None) -> Tensor:
        return h if self.condition_bias is None else h + per_channel(self.condition_bias(y), h)

    def left(self, h: Tensor) -> Tensor:
        return self.output(relu(self.hidden(relu(h))))


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c after one step, from (..., 4 h) sums and (..., h). Source: equation 3."""
    h = c.shape[-1]
    o, f, i = gates[..., : 3 * h].sigmoid().chunk(3, -1)
    c = f * c + i * gates[..., 3 * h :].tanh()
    return o * c.tanh(), c


class RowLSTM(nn.Module):
    """(B, 2 h, H, W) to (B, h, H, W), down the rows. Source: section 3.1."""

    def __init__(self, h: int, channels: int) -> None:
        super().__init__()
        self.h = h
        self.input_to_state = CausalConv2d(2 * h, h, 3, mask="B", above=0, channels=channels, gates=4)
        self.state_to_state = nn.Conv1d(h, 4 * h, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.input_to_state(x).permute(2, 0, 3, 1)  # (H, B, W, 4 h)
        h = c = inputs.new_zeros(*inputs.shape[1:3], self.h)
        rows = []
        for row in inputs:
            h, c = cell(row + self.from_above(h), c)
            rows.append(h)
        return torch.stack(rows).permute(1, 3, 0, 2)

    def from_above(self, h: Tensor) -> Tensor:
        """The contribution of the states h of the row above, (B, W, h), to the gates, (B, W, 4 h)."""
        return conv1d(h.mT, self.state_to_state.weight, padding=1).mT

    def memory(self, n: int, columns: int) -> dict[str, Tensor]:
        """h and c of this row, and the contribution of the row above."""
        sizes = {"h": self.h, "c": self.h, "sums above": 4 * self.h, "c above": self.h}
        return {name: self.state_to_state.weight.new_zeros(n, columns, size) for name, size in sizes.items()}

    def step(self, x: Tensor, memory: dict[str, Tensor], j: int) -> Tensor:
        h, c = cell(self.input_to_state(x) + memory["sums above"][:, j], memory["c above"][:, j])
        memory["h"][:, j], memory["c"][:, j] = h, c
        return h

    def end_row(self, memory: dict[str, Tensor]) -> None:
        memory["sums above"], memory["c above"] = self.from_above(memory["h"]), memory["c"].clone()


class DiagonalBiLSTM(nn.Module):
    """(B, 2 h, H, W) to (B, h, H, W), along the diagonals from both sides at once. Source: section 3.2, figure 3."""

    def __init__(self, h: int, channels: int) -> None:
        super().__init__()
        self.h = h
        self.from_left, self.from_right = (
            CausalConv2d(2 * h, h, 1, mask="B", channels=channels, gates=4) for _ in range(2)
        )
        # of both directions, from the state of the neighbour in the row and the state above
        self.state_to_state = nn.Parameter((torch.rand(2, 2 * h, 4 * h) * 2 - 1) / (2 * h) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        n, _, rows, columns = x.shape
        orders, lengths = diagonals(rows, columns)
        maps = (entrance(x).permute(2, 3, 0, 1).flatten(0, 1) for entrance in (self.from_left, self.from_right))
        inputs = torch.stack([pixels[order] for pixels, order in zip(maps, orders, strict=True)])  # (2, H W, B, 4 h)
        h = c = inputs.new_zeros(2, 0, n, self.h)
        states = []
        for k, diagonal in enumerate(inputs.split(lengths, 1)):
            # between rows of zeros; a diagonal starts a row lower than the last one once it meets the image's far side
            low, length = int(k >= columns), diagonal.shape[1]
            h, c = (pad(state, (0, 0, 0, 0, 1, 1))[:, low : low + length + 1] for state in (h, c))
            beside_and_above = torch.cat([h[:, 1:], h[:, :-1]], -1).flatten(1, 2)
            gates = torch.baddbmm(diagonal.flatten(1, 2), beside_and_above, self.state_to_state)
            h, c = cell(gates.view_as(diagonal), c[:, 1:])
            states.append(h)
        left, right = (
            pixels[order.argsort()].unflatten(0, (rows, columns))
            for pixels, order in zip(torch.cat(states, 1), orders, strict=True)
        )
        return (left + pad(right[:-1], (0, 0, 0, 0, 0, 0, 1, 0))).permute(2, 3, 0, 1)

    def memory(self, n: int, columns: int) -> dict[str, Tensor]:
        """Inputs and states of this row, h of the row above, and h there as it was read from the right."""
        sizes = {"x": 2 * self.h, "h": self.h, "c": self.h, "above": self.h, "right": self.h}
        return {name: self.state_to_state.new_zeros(n, columns, size) for name, size in sizes.items()}

    def step(self, x: Tensor, memory: dict[str, Tensor], j: int) -> Tensor:
        memory["x"][:, j] = x
        zeros = memory["h"].new_zeros(len(x), self.h)
        beside, c = (memory["h"][:, j - 1], memory["c"][:, j - 1]) if j else (zeros, zeros)
        gates = self.from_left(x) + torch.cat([beside, memory["above"][:, j]], 1) @ self.state_to_state[0]
        memory["h"][:, j], memory["c"][:, j] = h, _ = cell(gates, c)
        return h + memory["right"][:, j]

    def end_row(self, memory: dict[str, Tensor]) -> None:
        """Updates the states of the direction from the right with the row that is now complete."""
        memory["above"] = memory["h"].clone()
        n, columns, _ = memory["x"].shape
        inputs = self.from_right(memory["x"].flatten(0, 1)).view(n, columns, -1)
        h = c = memory["h"].new_zeros(n, self.h)
        for j in reversed(range(columns)):
            # memory still has the row above at j
            h, c = cell(inputs[:, j] + torch.cat([h, memory["right"][:, j]], 1) @ self.state_to_state[1], c)
            memory["right"][:, j] = h


def diagonals(rows: int, columns: int) -> tuple[list[Tensor], list[int]]:
    """The pixels of a flattened map diagonal by diagonal, from the left and from the right, and each one's length.

    The skewed map of figure 3, column by column, without its empty places.

    Example:
        >>> diagonals(2, 3)
        ([tensor([0, 1, 3, 2, 4, 5]), tensor([2, 1, 5, 0, 4, 3])], [1, 2, 2, 1])
    """
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    skewed = row + column
    orders = [
        (across.flatten() * rows + row.expand(-1, columns).flatten()).argsort() for across in (skewed, skewed.flip(1))
    ]
    return orders, skewed.flatten().bincount().tolist()
