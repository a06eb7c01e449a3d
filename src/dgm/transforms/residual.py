r"""An invertible residual map, with its log-determinant exact or by an unbiased estimate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from dgm.errors import BadInput
from dgm.transforms.coupling import beside
from dgm.transforms.transform import Mapped, Transform

TERMS = {True: 2, False: 20}  # of the series that are always summed, in training and in evaluation
STOP = 0.5  # the probability that the series ends after each further term
ITERATIONS = 5000  # of the inverse, at most
ROUNDING = 64  # units in the last place of 1 + |x|: a smaller change of x that does not shrink is rounding


class Residual(Transform):
    r"""z = x + g(x; c), where g has a Lipschitz constant below 1 in x.

    .. math:: \log \det \Big( I + \frac{\partial g}{\partial x} \Big)
        = \sum_{k=1}^\infty \frac{(-1)^{k+1}}{k} \operatorname{tr} J^k
        = E_{n, v} \sum_{k=1}^n \frac{(-1)^{k+1}}{k} \frac{v^T J^k v}{P(N \ge k)}

    with J the Jacobian of g, v of independent entries ±1, and N the number of terms that are always summed plus a
    geometric number: "Russian roulette", which is unbiased. The gradient in training is that of another unbiased
    series,

    .. math:: \nabla \log \det (I + J) = E_{n, v} \sum_{k=0}^n (-1)^k \frac{v^T J^k}{P(N \ge k)} \nabla J v

    which keeps one product with J in memory and not n. Or the log-determinant is exact, by J itself, at the cost of D
    products with it. The inverse is the fixed point of x = z - g(x), to the rounding of x.

    Source: Residual Flows for Invertible Generative Modeling (Chen et al., 2019), arXiv:1906.02735, equations 6 and 8;
    inverse, Invertible Residual Networks (Behrmann et al., 2019), arXiv:1811.00995, algorithm 1.

    Args:
        network: g of x beside the condition; for an image, a convolutional one.
        exact: Whether the log-determinant is exact.
    """

    def __init__(self, network: nn.Module, *, exact: bool) -> None:
        super().__init__()
        self.network, self.exact = network, exact

    def g(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.network(x if c is None else beside(x, c))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        tracked = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            g = self.g(x, c)
            ladj = exact_log_determinant(g, x, tracked) if self.exact else self.roulette(g, x, tracked)
        z = x + g
        return (z, ladj) if tracked else (z.detach(), ladj.detach())

    def roulette(self, g: Tensor, x: Tensor, tracked: bool) -> Tensor:
        """One draw of the estimate, (B,); its gradient is a draw of the gradient's estimate."""
        always = TERMS[self.training]
        terms = always + geometric(STOP)
        v = torch.randint_like(x, 2) * 2 - 1
        w, neumann, total = v, v, x.new_zeros(len(x))
        for k in range(1, terms + 1):
            (w,) = torch.autograd.grad(g, x, w, retain_graph=True)
            survives = (1 - STOP) ** max(0, k - always)  # P(N >= k)
            total = total + (-1) ** (k + 1) / k / survives * inner(w, v)
            neumann = neumann + (-1) ** k / survives * w
        if not tracked:
            return total
        (product,) = torch.autograd.grad(g, x, neumann, create_graph=True)
        gradient = inner(product, v)
        return total + (gradient - gradient.detach())

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        with torch.no_grad():
            with cached():  # the norms of the layers' weights are computed once
                x = self.fixed_point(z, c)
            return x, -self(x, c)[1]

    def fixed_point(self, z: Tensor, c: Tensor | None) -> Tensor:
        """The x of x = z - g(x), of each example until its changes do not shrink, as those of a contraction do.

        Raises:
            BadInput: If it does not converge, which a Lipschitz constant below 1 excludes.
        """
        x, small = z, ROUNDING * torch.finfo(z.dtype).eps
        change, moves = z.new_full((len(z),), math.inf), torch.ones(len(z), dtype=torch.bool, device=z.device)
        for _ in range(ITERATIONS):
            found = z - self.g(x, c)
            change, before = norm(found - x), change
            x = torch.where(moves.view(-1, *[1] * (z.dim() - 1)), found, x)
            moves &= ~((change < small * (1 + norm(found))) & (change >= before))
            if not moves.any():
                return x
            if not change.isfinite().all():
                break
        raise BadInput("the inverse of a residual map does not converge", "train again with a smaller coefficient")


def norm(x: Tensor) -> Tensor:
    """|x| of each example, (B,)."""
    return x.flatten(1).norm(dim=1)


def geometric(stop: float) -> int:
    """The number of further terms, from 0, where each is the last with this probability.

    P(at least k) = (1 - stop)^k.
    """
    return int(math.log(1 - float(torch.rand(()))) / math.log(1 - stop))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """a^T b of each example, (B,)."""
    return (a * b).flatten(1).sum(1)


def exact_log_determinant(g: Tensor, x: Tensor, tracked: bool) -> Tensor:
    """log det(I + dg/dx), (B,), by D gradients."""
    rows = [
        torch.autograd.grad(component.sum(), x, create_graph=tracked, retain_graph=True)[0].flatten(1)
        for component in g.flatten(1).unbind(1)
    ]
    jacobian = torch.stack(rows, 1)
    return torch.linalg.slogdet(jacobian + torch.eye(jacobian.shape[1], dtype=x.dtype, device=x.device))[1]
