r"""Linear layers with ReLU between them on columns, one an example, and their gradient, with few passes over memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dgm.networks.mlp import mlp

ROWS = 86  # of a block of a masked product, a third of 256; more and smaller blocks take as long
FEWEST = 1 << 14  # weights of a layer from which on its product is split into blocks
PART = 512  # examples whose units stay in a cache
LARGEST = 1 << 22  # numbers of a piece of memory that is kept for the next pass


class Product(NamedTuple):
    """The blocks of a matrix that are not zero, and products of them alone.

    Attributes:
        rows: Slices of rows, each with the number of columns that they read.
        columns: Slices of columns, each with the first row that reads them.
        mask: The matrix (rows, columns) of ones and zeros, where some of a block is zero; None where none is.
    """

    rows: list[tuple[slice, int]]
    columns: list[tuple[slice, int]]
    mask: Tensor | None = None

    @property
    def dense(self) -> bool:
        return len(self.rows) == 1 and self.mask is None

    def affine(self, w: Tensor, b: Tensor, h: Tensor, out: Tensor) -> Tensor:
        """W h + b."""
        if self.dense:
            return torch.addmm(b[:, None], w, h, out=out)
        w = w if self.mask is None else w * self.mask
        for rows, end in self.rows:
            torch.addmm(b[rows, None], w[rows, :end], h[:end], out=out[rows])
        return out

    def transposed_times(self, w: Tensor, g: Tensor, out: Tensor) -> Tensor:
        """W^T g."""
        if self.dense:
            return torch.mm(w.mT, g, out=out)
        w = w if self.mask is None else w * self.mask
        for columns, start in self.columns:
            torch.mm(w[start:, columns].mT, g[start:], out=out[columns])
        return out

    def outer(self, g: Tensor, h: Tensor) -> Tensor:
        """g h^T, and 0 where W is."""
        if self.dense:
            return g @ h.mT
        out = g.new_zeros(len(g), len(h))
        for rows, end in self.rows:
            torch.mm(g[rows], h[:end].mT, out=out[rows, :end])
        return out if self.mask is None else out.mul_(self.mask)


def dense(rows: int, columns: int) -> Product:
    """Of a matrix without zeros."""
    return Product([(slice(0, rows), columns)], [(slice(0, columns), 0)])


def staircase(rows: Tensor, columns: Tensor, mask: Tensor) -> Product:
    """Of a matrix whose rows read the columns of degrees up to their own; both are sorted by degree."""
    if len(rows) * len(columns) < FEWEST:
        return dense(len(rows), len(columns))._replace(mask=mask)
    of_rows = [(block, int((columns <= rows[block.stop - 1]).sum())) for block in blocks(rows)]
    of_columns = [(block, int((rows < columns[block.start]).sum())) for block in blocks(columns)]
    whole = all(mask[block, :end].all() for block, end in of_rows) and all(
        mask[start:, block].all() for block, start in of_columns
    )
    return Product(of_rows, of_columns, None if whole else mask)


def blocks(sorted_degrees: Tensor) -> list[slice]:
    """Slices of about `ROWS` rows, which begin where a degree does if one does nearby."""
    n = len(sorted_degrees)
    changes = [k for k in range(1, n) if sorted_degrees[k] != sorted_degrees[k - 1]] or [0]
    ends = []
    for k in range(ROWS, n - ROWS // 2, ROWS):
        nearest = min(changes, key=lambda change, k=k: abs(change - k))  # type: ignore[misc]
        ends.append(nearest if abs(nearest - k) < ROWS // 2 else k)
    return [slice(*pair) for pair in pairwise([0, *ends, n])]


class Kept(threading.local):
    """Memory of a thread that is used again: new memory of this size costs as much as a pass over it."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, torch.dtype], Tensor] = {}

    def __call__(self, place: int, rows: int, like: Tensor) -> Tensor:
        """(rows, B) whose values are those of nobody, at one of two places."""
        n = rows * like.shape[1]
        if n > LARGEST:
            return like.new_empty(rows, like.shape[1])
        piece = self.pieces.get((place % 2, like.dtype))
        if piece is None or len(piece) < n:
            piece = self.pieces[place % 2, like.dtype] = like.new_empty(n)
        return piece[:n].view(rows, -1)


kept = Kept()


def written_out(x: Tensor) -> bool:
    """Whether gradients that are written out are the faster ones here: of tensors on a CPU, outside of transforms."""
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return x.device.type == "cpu" and not traced


def relu_network(
    x: Tensor, products: Sequence[Product], parameters: Sequence[Tensor], of_condition: Tensor | None = None
) -> Tensor:
    """W_n relu(... relu(W_1 x + b_1 + c) ...) + b_n of x (D, B), on a CPU, differentiable once.

    Args:
        parameters: W_1, b_1, W_2, ...
        of_condition: c, of the shape of W_1 x.
    """
    if torch.is_grad_enabled():
        return ReLUNetwork.apply(x, of_condition, products, *parameters)
    out = x.new_empty(len(parameters[-1]), x.shape[1])
    conditions = repeat(None) if of_condition is None else of_condition.split(PART, 1)
    for of_x, c, of_out in zip(x.split(PART, 1), conditions, out.split(PART, 1), strict=False):
        units = [*(kept(k, len(b), of_x) for k, b in enumerate(parameters[1:-1:2])), of_out]
        layers_into(units, of_x, c, products, parameters)
    return out


def layers_into(
    units: Sequence[Tensor],
    x: Tensor,
    of_condition: Tensor | None,
    products: Sequence[Product],
    parameters: Sequence[Tensor],
) -> None:
    """Computes the units of each hidden layer and the outputs, in the memory given."""
    for k, (product, h, out) in enumerate(zip(products, [x, *units], units, strict=False)):
        product.affine(parameters[2 * k], parameters[2 * k + 1], h, out)
        if k == 0 and of_condition is not None:
            out.add_(of_condition)
        if k + 1 < len(products):
            out.relu_()


class ReLUNetwork(torch.autograd.Function):
    """`relu_network` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, of_condition: Tensor | None, products: Sequence[Product], *parameters: Tensor
    ) -> Tensor:
        ctx.products, ctx.conditional = products, of_condition is not None
        units = [x.new_empty(len(b), x.shape[1]) for b in parameters[1::2]]
        layers_into(units, x, of_condition, products, parameters)
        ctx.save_for_backward(x, *units[:-1], *parameters[::2])
        return units[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        n = len(ctx.products)
        hidden, weights = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        of_parameters: list[Tensor | None] = []
        g = g.contiguous()
        for k in reversed(range(n)):
            product, h, w = ctx.products[k], hidden[k], weights[k]
            of_w = product.outer(g, h) if ctx.needs_input_grad[3 + 2 * k] else None
            of_parameters = [of_w, g.sum(1), *of_parameters]
            if k:
                leaves = k == 1 and ctx.conditional  # as the gradient of c
                of_h = torch.empty_like(h) if leaves else kept(k, len(h), h)
                g = product.transposed_times(w, g, of_h)
                torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
        of_x = product.transposed_times(w, g, torch.empty_like(h)) if ctx.needs_input_grad[0] else None
        return of_x, g if ctx.conditional else None, None, *of_parameters


class ColumnMLP(nn.Sequential):
    """A multilayer perceptron with ReLU from (inputs, B) to (outputs, B): examples are the last axis."""

    def __init__(self, sizes: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__(*mlp(sizes, dropout=dropout, activation=lambda: nn.ReLU(inplace=True)))
        self.products = [dense(rows, columns) for columns, rows in pairwise(sizes)]
        self.large, self.dropout = max(a * b for a, b in pairwise(sizes)) >= FEWEST, dropout

    def forward(self, x: Tensor) -> Tensor:
        if self.large and written_out(x) and not (self.dropout and self.training):
            return relu_network(x, self.products, list(self.parameters()))
        *hidden, last = list[Any](self)
        h = x.mT
        for part in hidden:
            h = part(h)
        return torch.addmm(last.bias[:, None], last.weight, h.mT)
