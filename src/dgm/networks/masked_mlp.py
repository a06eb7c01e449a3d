r"""Masked multilayer perceptron: one pass gives, for every dimension d, outputs that are a function of x_<d alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ROWS = 64  # of a block of a masked product; fewer make the products inefficient
FEWEST = 1 << 14  # weights of a layer from which on its product is split into blocks


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
        of_condition = self.context(c).mT if c is not None and self.context is not None else None
        if self.large and x.device.type == "cpu":
            parameters = (parameter for layer in self.layers for parameter in (layer.weight, layer.bias))
            h = MaskedNetwork.apply(x, of_condition, list(self.layers), *parameters)
        else:
            h = self.layers[0](x)
            h = h if of_condition is None else h + of_condition
            for layer in self.layers[1:]:
                h = layer(h.relu())
        return h.unflatten(0, (self.dim, self.outputs))

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
        if c is not None and self.context is not None:
            first = first + self.context(c).mT
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
    """Of the units of a hidden layer, from ``lowest`` to D - 1, as many of each as of any other, sorted.

    Example:
        >>> degrees(5, 1, 4), degrees(2, 0, 6)
        (tensor([1, 1, 2, 2, 3]), tensor([2, 5]))
    """
    many = dim - lowest
    if width >= many:
        return (torch.arange(width) % many).sort().values + lowest
    return torch.arange(1, width + 1) * many // width - 1 + lowest


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
        self.stairs = stairs(rows, columns)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def forward(self, h: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.masked(), h)


class Stairs(NamedTuple):
    """The blocks of a staircase matrix that are not zero, and products of them alone.

    Attributes:
        rows: Slices of rows, each with the number of columns that they read.
        columns: Slices of columns, each with the first row that reads them.
    """

    rows: list[tuple[slice, int]]
    columns: list[tuple[slice, int]]

    def times(self, w: Tensor, h: Tensor) -> Tensor:
        """W h."""
        out = h.new_empty(len(w), h.shape[1])
        for rows, end in self.rows:
            torch.mm(w[rows, :end], h[:end], out=out[rows])
        return out

    def transposed_times(self, w: Tensor, g: Tensor) -> Tensor:
        """W^T g."""
        out = g.new_empty(w.shape[1], g.shape[1])
        for columns, start in self.columns:
            torch.mm(w[start:, columns].mT, g[start:], out=out[columns])
        return out

    def outer(self, g: Tensor, h: Tensor) -> Tensor:
        """g h^T, and 0 where all of a block of W is 0."""
        out = g.new_zeros(len(g), len(h))
        for rows, end in self.rows:
            torch.mm(g[rows], h[:end].mT, out=out[rows, :end])
        return out


def stairs(rows: Tensor, columns: Tensor) -> Stairs:
    if len(rows) * len(columns) < FEWEST:
        return Stairs([(slice(0, len(rows)), len(columns))], [(slice(0, len(columns)), 0)])
    return Stairs(
        [(block, int((columns <= rows[block.stop - 1]).sum())) for block in blocks(rows)],
        [(block, int((rows < columns[block.start]).sum())) for block in blocks(columns)],
    )


def blocks(sorted_degrees: Tensor) -> list[slice]:
    """Slices of about `ROWS` rows, which begin where a degree does if one does nearby."""
    n = len(sorted_degrees)
    changes = [k for k in range(1, n) if sorted_degrees[k] != sorted_degrees[k - 1]] or [0]
    ends = []
    for k in range(ROWS, n - ROWS // 2, ROWS):
        nearest = min(changes, key=lambda change, k=k: abs(change - k))  # type: ignore[misc]
        ends.append(nearest if abs(nearest - k) < ROWS // 2 else k)
    return [slice(*pair) for pair in pairwise([0, *ends, n])]


class MaskedNetwork(torch.autograd.Function):
    """Masked layers with ReLU between them, and their gradient, from the blocks of each matrix that are not zero.

    A ReLU and its gradient overwrite the values that they are applied to.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, of_condition: Tensor | None, layers: list[MaskedLinear], *parameters: Tensor
    ) -> Tensor:
        ctx.layers, ctx.conditional, h = layers, of_condition is not None, x
        saved = []
        for k, layer in enumerate(layers):
            w, b = parameters[2 * k] * layer.mask, parameters[2 * k + 1]
            saved += [h, w]
            h = layer.stairs.times(w, h).add_(b[:, None])
            if k == 0 and of_condition is not None:
                h.add_(of_condition)
            if k + 1 < len(layers):
                h.relu_()
        ctx.save_for_backward(*saved)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        of_parameters: list[Tensor | None] = []
        for k, layer in reversed(list(enumerate(ctx.layers))):
            h, w = ctx.saved_tensors[2 * k : 2 * k + 2]
            needed = ctx.needs_input_grad[3 + 2 * k]
            of_parameters = [layer.stairs.outer(g, h).mul_(layer.mask) if needed else None, g.sum(1), *of_parameters]
            if k:
                g = layer.stairs.transposed_times(w, g)
                torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
        of_condition = g if ctx.conditional else None
        of_x = layer.stairs.transposed_times(w, g) if ctx.needs_input_grad[0] else None
        return of_x, of_condition, None, *of_parameters
