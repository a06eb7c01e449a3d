r"""Autoregressive transforms: each dimension is transformed with parameters that are functions of those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dgm.networks.columns import Product, all_units, gradients, masked
from dgm.networks.masked_mlp import MaskedMLP
from dgm.transforms.transform import Mapped, Transform
from dgm.transforms.univariate import Affine, Univariate

BLOCK = 32  # dimensions that are solved for together on a GPU, where a pass takes as long for many as for one
LARGEST = 1e18  # of an iterate that has not converged: its products with weights stay finite


class Autoregressive(Transform):
    r"""z_d = f(x_d; h_d(x_{<d}, c)) with a monotone f and a masked network h.

    The Jacobian is triangular, with log-determinant sum log f'(x_d). The transform takes one pass of the network. Its
    inverse solves for a few dimensions at a time by the fixed-point iteration x ← f^-1(z; h(x, c)): each iteration
    makes at least one more dimension exact, so that a block of n dimensions needs at most n of them; it ends when x
    does not change any more. The contributions of dimensions before a block are computed once. Gradients of the inverse
    are those of the implicit function.

    Source: Masked autoregressive flow for density estimation (Papamakarios et al., 2017), arXiv:1705.07057, equations
    2-6, with any f; the iteration: Accelerating feedforward computation via parallel nonlinear equation solving
    (Song et al., 2021), arXiv:2002.03629, algorithm 1, applied to blocks.

    Args:
        dim: D, of x (B, D).
        univariate: f; `Affine` by default.
        hidden: The widths of the network's hidden layers.
        context: The number of features of the condition c (B, K).
        size: The dimensions of a block; by default 1 on a CPU and 32 elsewhere.

    Example:
        >>> layer = Autoregressive(3, context=2)
        >>> z, ladj = layer(torch.zeros(5, 3), torch.zeros(5, 2))
    """

    def __init__(
        self,
        dim: int,
        univariate: Univariate | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        context: int = 0,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.univariate = Affine() if univariate is None else univariate
        self.network = MaskedMLP(dim, self.univariate.parameters, hidden, context)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        net = self.network
        if type(self.univariate) is Affine and torch.is_grad_enabled() and net.written_out(x):
            z, ladj = AffineLayer.apply(
                x.mT, net.of_condition(c), self.univariate.bound, net.products, *net.weights_and_biases
            )
            return z.mT, ladj
        z, slopes = self.each(x.mT, c)
        return z.mT, slopes.sum(0)

    def each(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and the logarithm of each slope, of x (D, B)."""
        return self.univariate.forward(x, self.network(x, c))

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        with torch.no_grad():
            x, slopes = self.solve(z.mT, c)
        if torch.is_grad_enabled():
            x = self.differentiable(x, z.mT, c)
            slopes = -self.each(x, c)[1]
        return x.mT, slopes.sum(0)

    def solve(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """x of z (D, B), and minus the logarithm of each slope."""
        x, slopes = torch.zeros_like(z), torch.zeros_like(z)
        small = 4 * torch.finfo(z.dtype).eps
        size = self.size or (1 if z.device.type == "cpu" else BLOCK)
        for dims, outputs in self.network.in_blocks(x, c, size):
            for left in range(dims.stop - dims.start, 0, -1):
                found, slopes[dims] = self.univariate.inverse(z[dims], outputs())
                settled = left == 1 or bool(((found - x[dims]).abs() <= small * (1 + found.abs())).all())
                x[dims] = found if settled else found.nan_to_num(0.0).clamp(-LARGEST, LARGEST)
                if settled:
                    break
            outputs()  # the units of the block, of its final x
        return x, slopes

    def differentiable(self, x: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        r"""x with the gradients of the solution of f(x) = z.

        With the Jacobian J of f, dx = J^-1 (dz - df at fixed x), so that a gradient a with respect to x becomes
        J^-T a with respect to z - f(x).
        """
        return Solution.apply(z - self.each(x, c)[0], x, lambda a: self.solve_transposed(a, x, c))

    @torch.enable_grad()
    def solve_transposed(self, a: Tensor, x: Tensor, c: Tensor | None) -> Tensor:
        """v with J^T v = a, by v ← (a - (J^T - S) v) / S with the diagonal S of J, exact after D iterations."""
        x = x.detach().requires_grad_()
        z, slopes = self.each(x, None if c is None else c.detach())
        s = slopes.detach().exp()
        v, small = a / s, 4 * torch.finfo(a.dtype).eps
        for _ in range(len(x) - 1):
            (product,) = torch.autograd.grad(z, x, v, retain_graph=True)
            found = v + (a - product) / s
            settled = bool(((found - v).abs() <= small * (1 + found.abs())).all())
            v = found
            if settled:
                break
        return v


class AffineLayer(torch.autograd.Function):
    """z and sum log f'(x_d) of x (D, B) for an `Affine` f, with their gradient in few passes over memory.

    Args:
        bound: Of the absolute log-scale.
        products, parameters: Of the masked network, see `dgm.networks.columns.relu_network`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        of_condition: Tensor | None,
        bound: float,
        products: Sequence[Product],
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.products, ctx.conditional = products, of_condition is not None
        weights = masked(products, parameters)
        *hidden, out = all_units(x, of_condition, products, weights, parameters[1::2])
        a, t = out.view(len(x), 2, -1).unbind(1)
        shrunk = (a.abs() / bound).add_(1).reciprocal_()
        s = a * shrunk
        scale = s.exp()
        ctx.save_for_backward(scale, shrunk, x, *hidden, *weights)
        return torch.addcmul(t, x, scale), s.sum(0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_z: Tensor, of_ladj: Tensor) -> tuple[Any, ...]:
        n, needed = len(ctx.products), ctx.needs_input_grad
        scale, shrunk, x, *others = ctx.saved_tensors
        of_x = of_z * scale
        g = x.new_empty(len(x), 2, x.shape[1])
        torch.addcmul(of_ladj, of_x, x, out=g[:, 0]).mul_(shrunk).mul_(shrunk)  # ds / da is shrunk squared
        g[:, 1] = of_z
        of_inputs, of_condition, of_parameters = gradients(
            g.flatten(0, 1),
            [x, *others[: n - 1]],
            ctx.products,
            others[n - 1 :],
            [needed[0], *needed[4:]],
            conditional=ctx.conditional,
        )
        return None if of_inputs is None else of_x.add_(of_inputs), of_condition, None, None, *of_parameters


class Solution(torch.autograd.Function):
    """x, whose gradient a becomes ``transposed(a)`` with respect to the first argument."""

    @staticmethod
    def forward(ctx: Any, off: Tensor, x: Tensor, transposed: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.transposed = transposed
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, a: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed(a), None, None
