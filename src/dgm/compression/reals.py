r"""Real numbers with a stated number of decimals, as in a .csv file: integers k of a grid, with x = k / 10^places.

.. math:: P(k) = F(10^{-p} (k + 1/2)) - F(10^{-p} (k - 1/2))

where F is the distribution function of the column given the columns before it. So -log2 P(k) is about -log2 of the
density, plus p log2 10. A grid of up to 2^24 values is coded in two parts, a cell and a value in this cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgm.compression.frequencies import Frequencies, log_interval
from dgm.compression.stack import Stack
from dgm.distributions.columns import Columns, Missing
from dgm.distributions.output import mixture

DIGIT = 1 << 12  # values of each of the two parts
LARGEST = DIGIT**2
MOST_PLACES = 18  # decimals: 10^18 is an int64


@dataclass(frozen=True)
class Grid:
    """The values first / 10^places … (first + count - 1) / 10^places.

    Example:
        >>> grid = Grid.of("1.5").joined(Grid.of("-0.25"))
        >>> grid.places, grid.first, grid.count
        (2, -25, 176)
        >>> grid.text(1.5), Grid.of("1.50").text(1.5)
        ('1.5', '1.50')
    """

    places: int
    first: int
    count: int
    fixed: bool = False  # whether all decimals are written, also zeros at the end

    @classmethod
    def of(cls, text: str) -> Grid:
        """Of one number."""
        number = Decimal(text.strip())
        places = -int(number.as_tuple().exponent)
        return cls(max(0, places), int(number.scaleb(max(0, places))), 1, places >= 0)

    @classmethod
    def from_json(cls, document: list[Any]) -> Grid:
        grid = cls(*document)
        if not (0 <= grid.places <= MOST_PLACES and 1 <= grid.count <= LARGEST):
            raise ValueError(f"no column has the grid {document}")
        return grid

    def joined(self, other: Grid) -> Grid:
        """The smallest grid that has the values of both."""
        places = max(self.places, other.places)
        a, b = self.finer(places), other.finer(places)
        first, end = min(a.first, b.first), max(a.first + a.count, b.first + b.count)
        return Grid(places, first, end - first, self.fixed and other.fixed and self.places == other.places)

    def finer(self, places: int) -> Grid:
        factor = 10 ** (places - self.places)
        return Grid(places, self.first * factor, (self.count - 1) * factor + 1)

    def ranks(self, x: Tensor) -> Tensor:
        """The number of each value in the grid, from 0 on."""
        return (x.double() * 10**self.places).round().long() - self.first

    def values(self, ranks: Tensor) -> Tensor:
        """The inverse of `ranks`: the float64 nearest to the decimal number, as its text is read."""
        return (ranks + self.first).double() / 10**self.places

    def text(self, x: float) -> str:
        digits = f"{x:.{self.places}f}"
        return digits if self.fixed or not self.places else digits.rstrip("0").rstrip(".")

    @property
    def bits(self) -> float:
        """-log2 of the distance of two values."""
        return self.places * math.log2(10)

    @property
    def largest(self) -> int:
        """The largest magnitude of k."""
        return max(abs(self.first), abs(self.first + self.count - 1))

    def to_json(self) -> list[Any]:
        return [self.places, self.first, self.count, self.fixed]


class RealColumn:
    """The code of one column of real numbers, given the outputs of the network for it.

    Args:
        observed: The output distribution of all columns.
        dim: The number of the column.
    """

    def __init__(self, observed: Any, dim: int, grid: Grid) -> None:
        self.grid, self.dim = grid, None if isinstance(observed, Columns) else dim
        of_column: Any = observed.of(dim) if isinstance(observed, Columns) else observed
        self.optional = isinstance(of_column, Missing)
        self.known = of_column.known if self.optional else of_column
        self.width = -(-grid.count // DIGIT)  # values in a cell

    def push(self, stack: Stack, x: Tensor, outputs: Tensor) -> None:
        known = ~x.isnan()
        outputs_known, ranks = self.of_known(outputs)[known], self.grid.ranks(x[known])
        cells = ranks // self.width
        if self.width > 1 and known.any():
            stack.push(ranks % self.width, self.within(outputs_known, cells))
        if known.any():
            stack.push(cells, self.coarse(outputs_known))
        if self.optional:
            stack.push((~known).long(), self.missing(outputs))

    def pop(self, stack: Stack, outputs: Tensor) -> Tensor:
        missing = stack.pop(self.missing(outputs)).bool() if self.optional else torch.zeros(len(outputs)).bool()
        x = torch.full((len(outputs),), torch.nan, dtype=torch.float64)
        if not missing.all():
            outputs = self.of_known(outputs)[~missing]
            cells = stack.pop(self.coarse(outputs))
            within = stack.pop(self.within(outputs, cells)) if self.width > 1 else torch.zeros_like(cells)
            x[~missing] = self.grid.values(cells * self.width + within)
        return x

    def missing(self, outputs: Tensor) -> Frequencies:
        logit = outputs[:, 0].double()
        return Frequencies(torch.stack([logsigmoid(-logit), logsigmoid(logit)], 1))

    def of_known(self, outputs: Tensor) -> Tensor:
        """The outputs of the distribution of a value that is not missing."""
        return outputs[:, int(self.optional) :][:, : self.known.outputs]

    def coarse(self, outputs: Tensor) -> Frequencies:
        """Of the cells."""
        edges = torch.arange(-(-self.grid.count // self.width) + 1) * self.width
        return Frequencies(self.log_intervals(outputs, edges.expand(len(outputs), -1)))

    def within(self, outputs: Tensor, cells: Tensor) -> Frequencies:
        """Of the values in the cells; equal ones where the cell has no probability in float64."""
        log_p = self.log_intervals(outputs, cells[:, None] * self.width + torch.arange(self.width + 1))
        return Frequencies(log_p.log_softmax(1).nan_to_num(0.0))

    def log_intervals(self, outputs: Tensor, ranks: Tensor) -> Tensor:
        """log F(b) - F(a) between the lower ends of the values of neighbouring ranks, (B, E) to (B, E - 1)."""
        log_pi, mu, log_s = (v.double()[..., None] for v in mixture(outputs))
        edges = (ranks + self.grid.first - 0.5) / 10**self.grid.places
        scaled = self.known.scaling(edges, self.dim).double()[:, None]
        return (log_pi + log_interval((scaled - mu) / log_s.exp())).logsumexp(1)
