r"""Linear layers with ReLU between them on columns, one an example, and their gradient, with few passes over memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dgm.networks.mlp import mlp

ROWS = 64  # of a block of a masked product; smaller blocks take as long
FEWEST = 1 << 14  # weights of a layer from which on its product is split into blocks
PART = 512  # examples whose units stay in a cache
LARGEST = 1 << 22  # numbers of a piece of memory that is kept for the next pass


class Product(NamedTuple):
    """The blocks of a matrix that are not zero, and products of them alone.

    Attributes:
        rows: The rows of each block of rows.
        ends: The columns that each of these blocks reads.
        columns: The columns of each block of columns.
        starts: The first row that reads each of these blocks.
        mask: The matrix (rows, columns) of ones and zeros, where some of a block is zero; None where none is.
    """

    rows: list[int]
    ends: list[int]
    columns: list[int]
    starts: list[int]
    mask: Tensor | None = None

    def masked(self, w: Tensor) -> Tensor:
        """W, with 0 where the mask is."""
        return w if self.mask is None else w * self.mask

    def affine(self, w: Tensor, b: Tensor, h: Tensor, out: Tensor) -> Tensor:
        """W h + b of a masked W."""
        if len(self.rows) == 1:
            return torch.addmm(b[:, None], w, h, out=out)
        parts = (part.split(self.rows) for part in (b[:, None], w, out))
        for end, of_b, of_w, of_out in zip(self.ends, *parts, strict=True):
            torch.addmm(of_b, of_w[:, :end], h[:end], out=of_out)
        return out

    def transposed_times(self, w: Tensor, g: Tensor, out: Tensor) -> Tensor:
        """W^T g of a masked W."""
        if len(self.columns) == 1:
            return torch.mm(w.mT, g, out=out)
        for start, of_w, of_out in zip(self.starts, w.mT.split(self.columns), out.split(self.columns), strict=True):
            torch.mm(of_w[:, start:], g[start:], out=of_out)
        return out

    def outer(self, g: Tensor, h: Tensor) -> Tensor:
        """g h^T, and 0 where W is."""
        if len(self.columns) == 1:
            out = g @ h.mT
        else:
            out = g.new_zeros(len(g), len(h))
            for start, of_h, of_out in zip(self.starts, h.split(self.columns), out.split(self.columns, 1), strict=True):
                torch.mm(g[start:], of_h.mT, out=of_out[start:])
        return out if self.mask is None else out.mul_(self.mask)


def dense(rows: int, columns: int) -> Product:
    """Of a matrix without zeros."""
    return Product([rows], [columns], [columns], [0])


def staircase(rows: Tensor, columns: Tensor, mask: Tensor) -> Product:
    """Of a matrix whose rows read the columns of degrees up to their own; both are sorted by degree."""
    if len(rows) * len(columns) < FEWEST:
        return dense(len(rows), len(columns))._replace(mask=mask)
    of_rows, of_columns = blocks(len(rows)), blocks(len(columns))
    ends = [int((columns <= part[-1]).sum()) for part in rows.split(of_rows)]
    starts = [int((rows < part[0]).sum()) for part in columns.split(of_columns)]
    whole = all(part[:, :end].all() for part, end in zip(mask.split(of_rows), ends, strict=True)) and all(
        part[start:].all() for part, start in zip(mask.split(of_columns, 1), starts, strict=True)
    )
    return Product(of_rows, ends, of_columns, starts, None if whole else mask)


def blocks(n: int) -> list[int]:
    """n in parts of `ROWS`, the last of up to half as many more."""
    many = max(1, (n + ROWS // 2 - 1) // ROWS)
    return [ROWS] * (many - 1) + [n - ROWS * (many - 1)]


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
    weights = masked(products, parameters)
    out = x.new_empty(len(parameters[-1]), x.shape[1])
    conditions = repeat(None) if of_condition is None else of_condition.split(PART, 1)
    for of_x, c, of_out in zip(x.split(PART, 1), conditions, out.split(PART, 1), strict=False):
        units = [*(kept(k, len(b), of_x) for k, b in enumerate(parameters[1:-1:2])), of_out]
        layers_into(units, of_x, c, products, weights, parameters[1::2])
    return out


def masked(products: Sequence[Product], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The weights of each layer without those that its product does not have."""
    return [product.masked(w) for product, w in zip(products, parameters[::2], strict=True)]


def layers_into(
    units: Sequence[Tensor],
    x: Tensor,
    of_condition: Tensor | None,
    products: Sequence[Product],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> None:
    """Computes the units of each hidden layer and the outputs, in the memory given."""
    for k, (product, w, b, h, out) in enumerate(zip(products, weights, biases, [x, *units], units, strict=False)):
        product.affine(w, b, h, out)
        if k == 0 and of_condition is not None:
            out.add_(of_condition)
        if k + 1 < len(products):
            out.relu_()


def all_units(
    x: Tensor,
    of_condition: Tensor | None,
    products: Sequence[Product],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> list[Tensor]:
    """The units of each hidden layer and the outputs, in new memory."""
    units = [x.new_empty(len(b), x.shape[1]) for b in biases]
    layers_into(units, x, of_condition, products, weights, biases)
    return units


def gradients(
    g: Tensor,
    inputs: Sequence[Tensor],
    products: Sequence[Product],
    weights: Sequence[Tensor],
    needed: Sequence[bool],
    *,
    conditional: bool,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Of x, of the condition's part c and of the parameters, from the gradient g of the outputs.

    Args:
        inputs: x, and the units of each hidden layer.
        weights: Of each layer, masked.
        needed: Whether the gradient of x, and of each parameter, is needed.
        conditional: Whether there is a c.
    """
    of_parameters: list[Tensor | None] = []
    g = g.contiguous()
    for k, (product, h, w) in reversed(list(enumerate(zip(products, inputs, weights, strict=True)))):
        of_w = product.outer(g, h) if needed[1 + 2 * k] else None
        of_parameters = [of_w, g.sum(1), *of_parameters]
        if k:
            leaves = k == 1 and conditional  # as the gradient of c
            g = product.transposed_times(w, g, torch.empty_like(h) if leaves else kept(k, len(h), h))
            torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)
    of_x = product.transposed_times(w, g, torch.empty_like(h)) if needed[0] else None
    return of_x, g if conditional else None, of_parameters


class ReLUNetwork(torch.autograd.Function):
    """`relu_network` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, of_condition: Tensor | None, products: Sequence[Product], *parameters: Tensor
    ) -> Tensor:
        ctx.products, ctx.conditional = products, of_condition is not None
        weights = masked(products, parameters)
        *hidden, out = all_units(x, of_condition, products, weights, parameters[1::2])
        ctx.save_for_backward(x, *hidden, *weights)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        n, needed = len(ctx.products), ctx.needs_input_grad
        inputs, weights = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        of_x, of_condition, of_parameters = gradients(
            g, inputs, ctx.products, weights, [needed[0], *needed[3:]], conditional=ctx.conditional
        )
        return of_x, of_condition, None, *of_parameters


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
