r"""Masked multilayer perceptron: one pass gives, for every dimension d, outputs that are a function of x_<d alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dgm.networks.columns import FEWEST, ROWS, Product, relu_network, staircase, written_out

ALIGNED = 4 * ROWS  # units of a layer from which on few of them get another degree when blocks begin with one


class MaskedMLP(nn.Module):
    r"""Outputs f_d(x_{<d}; c) of every dimension d, from linear layers with masked weights and ReLU between them.

    A hidden unit of degree m depends on the first m dimensions, so it is connected to units of degrees up to m; the
    outputs of dimension d, counted from 0, are connected to units of degrees up to d. Units are sorted by degree, so
    that a mask is block triangular, and the product with a layer's weights is computed in blocks of rows without most
    of the zeros.

    Source: MADE (Germain et al., 2015), arXiv:1502.03509, equations 8-10. Differs from it: with a condition there are
    units of degree 0, which see the condition alone, so that the first dimension depends on it.

    Args:
        dim: D.
        outputs: P, of each dimension.
        hidden: The widths of the hidden layers.
        context: The number of features of a condition.

    Example:
        >>> MaskedMLP(3, 2, [16, 16])(torch.zeros(3, 5)).shape
        torch.Size([3, 2, 5])
    """

    def __init__(self, dim: int, outputs: int, hidden: Sequence[int], context: int = 0) -> None:
        super().__init__()
        self.dim, self.outputs = dim, outputs
        lowest = 0 if context or dim == 1 else 1
        self.degrees = [torch.arange(1, dim + 1)] + [degrees(width, lowest, dim) for width in hidden]
        places = [*self.degrees, torch.arange(dim).repeat_interleave(outputs)]
        self.layers: Any = nn.ModuleList(MaskedLinear(*pair) for pair in pairwise(places))
        self.large = any(len(rows) * len(columns) >= FEWEST for columns, rows in pairwise(places))
        self.context = nn.Linear(context, len(places[1]), bias=False) if context else None
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The outputs (D, P, B) of x (D, B) and a condition (B, K); examples are the last axis."""
        of_condition = self.of_condition(c)
        if self.written_out(x):
            h = relu_network(x, self.products, self.weights_and_biases, of_condition)
        else:
            h = self.layers[0](x)
            h = h if of_condition is None else h + of_condition
            for layer in self.layers[1:]:
                h = layer(h.relu())
        return h.unflatten(0, (self.dim, self.outputs))

    def of_condition(self, c: Tensor | None) -> Tensor | None:
        """What the condition adds to the first layer, (units, B)."""
        return None if c is None or self.context is None else self.context(c).mT

    def written_out(self, x: Tensor) -> bool:
        """Whether a gradient that is written out is the faster one."""
        return self.large and written_out(x)

    @property
    def products(self) -> list[Product]:
        return [layer.product for layer in self.layers]

    @property
    def weights_and_biases(self) -> list[Tensor]:
        return [parameter for layer in self.layers for parameter in (layer.weight, layer.bias)]

    def in_blocks(
        self, x: Tensor, c: Tensor | None = None, size: int = 1
    ) -> Iterator[tuple[slice, Callable[[], Tensor]]]:
        """The outputs of ``size`` dimensions at a time, with every unit of the dimensions before computed once.

        Args:
            x: A buffer (D, B). The caller writes the dimensions of a block to it before requesting the next block.

        Yields:
            The dimensions of a block, and a function that computes their outputs (size, P, B) from the current x.
        """
        first = self.layers[0].bias[:, None]
        of_condition = self.of_condition(c)
        if of_condition is not None:
            first = first + of_condition
        biases = [first, *(layer.bias[:, None] for layer in self.layers[1:])]
        weights = [layer.masked() for layer in self.layers]
        known = [x, *(x.new_empty(len(of_layer), x.shape[1]) for of_layer in self.degrees[1:])]
        for start in range(0, self.dim, size):
            end = min(start + size, self.dim)
            rows = [slice(start, end)]
            for of_layer in self.degrees[1:]:
                rows.append(slice(*torch.searchsorted(of_layer, torch.tensor([start, end])).tolist()))
            rows.append(slice(start * self.outputs, end * self.outputs))
            block = Block(weights, biases, known, rows)
            yield rows[0], lambda block=block: block().unflatten(0, (-1, self.outputs))  # type: ignore[misc]


class Block:
    """The units and outputs of a few neighbouring dimensions.

    Args:
        weights: The masked weights of each layer.
        known: x and the units of each hidden layer, of which the rows before the block are final.
        rows: Those of the block in x, in each hidden layer and in the outputs.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], known: list[Tensor], rows: list[slice]) -> None:
        self.known, self.rows = known, rows
        layers = zip(weights, biases, known, rows, rows[1:], strict=False)
        # the contributions of the units before the block, and the weights between units of the block
        self.before = [torch.addmm(b[to], w[to, : of.start], h[: of.start]) for w, b, h, of, to in layers]
        self.within = [w[to, of] for w, of, to in zip(weights, rows, rows[1:], strict=False)]

    def __call__(self) -> Tensor:
        for place, (before, w) in enumerate(zip(self.before, self.within, strict=True)):
            h = torch.addmm(before, w, self.known[place][self.rows[place]])
            if place + 1 < len(self.known):
                self.known[place + 1][self.rows[place + 1]] = h.relu_()
        return h


def degrees(width: int, lowest: int, dim: int) -> Tensor:
    """Of the units of a hidden layer, from ``lowest`` to D - 1, sorted, about as many of each as of any other.

    Example:
        >>> degrees(5, 1, 4), degrees(2, 0, 6)
        (tensor([1, 1, 2, 2, 3]), tensor([2, 5]))
    """
    many = dim - lowest
    if width >= many:
        found = (torch.arange(width) % many).sort().values
        return lowest + (found if width < ALIGNED else aligned(found, many))
    return torch.arange(1, width + 1) * many // width - 1 + lowest


def aligned(of_units: Tensor, many: int) -> Tensor:
    """With changes at multiples of `ROWS` where there is one nearby, so that fewer of a block's weights are zero."""
    firsts = torch.searchsorted(of_units, torch.arange(1, many))
    for start in range(ROWS, len(of_units), ROWS):
        away = (firsts - start).abs()
        if len(firsts) and away.min() < ROWS // 2:
            firsts[away.argmin()] = start
    return (torch.arange(len(of_units))[:, None] >= firsts).sum(1)


class MaskedLinear(nn.Module):
    """W h + b on (inputs, B), where row k reads the columns of degrees up to its own.

    Args:
        columns: The degrees of the inputs, sorted.
        rows: The degrees of the outputs, sorted.
    """

    mask: Tensor

    def __init__(self, columns: Tensor, rows: Tensor) -> None:
        super().__init__()
        linear = nn.Linear(len(columns), len(rows))
        self.weight, self.bias = linear.weight, linear.bias
        # as numbers, since a product with truth values would convert them each time
        self.register_buffer("mask", (rows[:, None] >= columns).to(self.weight.dtype), persistent=False)
        self.staircase = staircase(rows, columns, self.mask)

    @property
    def product(self) -> Product:
        """With the mask of today's dtype."""
        return self.staircase if self.staircase.mask is None else self.staircase._replace(mask=self.mask)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def forward(self, h: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.masked(), h)
