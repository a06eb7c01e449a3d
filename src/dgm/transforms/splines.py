r"""Monotone rational-quadratic splines."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dgm.errors import BadInput
from dgm.transforms.univariate import Univariate, Valued

SMALLEST = 1e-3  # of a bin's share of the interval, and of a slope


class RationalQuadratic(Univariate):
    r"""A spline of rational quadratics from [-B, B] onto itself, and the identity outside.

    Between the knots (x_k, y_k) and (x_{k+1}, y_{k+1}), with slopes d_k and d_{k+1} there, s = (y_{k+1} - y_k) /
    (x_{k+1} - x_k) and xi = (x - x_k) / (x_{k+1} - x_k),

    .. math:: z = y_k + \frac{(y_{k+1} - y_k) (s \xi^2 + d_k \xi (1 - \xi))}
        {s + (d_{k+1} + d_k - 2 s) \xi (1 - \xi)}

    The widths and the heights of the K bins are softmaxes of K parameters each, the K - 1 slopes between them softplus
    of the others; both have a smallest value. All parameters 0 give the identity.

    Source: Neural spline flows (Durkan et al., 2019), arXiv:1906.04032, section 3.1, equations 4-8. Differs from it:
    the parameter of a slope is shifted so that 0 gives slope 1; a discriminant that rounding makes negative is 0.

    Args:
        bins: K.
        bound: B.

    Raises:
        BadInput: For so many bins that the smallest sizes do not fit.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        if bins * SMALLEST >= 1:
            raise BadInput(f"{bins} bins of at least {SMALLEST} each do not fit", f"give fewer than {1 / SMALLEST:.0f}")
        self.bins, self.bound = bins, bound
        self.parameters = 3 * bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> Valued:
        inside = x.abs() <= self.bound
        of_x, of_z, slopes = self.split(parameters)
        share = (x.clamp(-self.bound, self.bound) + self.bound) / (2 * self.bound)
        k, left, width, bottom, height = Located.apply(share, of_x, of_z)
        piece = self.piece(k, left, width, bottom, height, slopes)
        z, log_slope = piece.value((share - piece.left) / piece.width)
        return torch.where(inside, (2 * z - 1) * self.bound, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, parameters: Tensor) -> Valued:
        with torch.no_grad():
            x, log_slope = self.solve(z, parameters)
        if torch.is_grad_enabled():
            off, log_slope = self.forward(x, parameters)
            # dx = (dz - df at fixed x) / f'(x)
            off = (z - off) * (-log_slope.detach()).exp()
            x = x + (off - off.detach())
            log_slope = self.forward(x, parameters)[1]
        return x, -log_slope

    def solve(self, z: Tensor, parameters: Tensor) -> Valued:
        """x, and log f'(x)."""
        inside = z.abs() <= self.bound
        of_x, of_z, slopes = self.split(parameters)
        share = (z.clamp(-self.bound, self.bound) + self.bound) / (2 * self.bound)
        k, bottom, height, left, width = Located.apply(share, of_z, of_x)
        piece = self.piece(k, left, width, bottom, height, slopes)
        xi = piece.root(share)
        x = 2 * (left + xi * width) - 1
        return torch.where(inside, x * self.bound, z), torch.where(inside, piece.value(xi)[1], 0.0)

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The parameters (..., 3 K - 1, L) of widths, of heights and of slopes."""
        widths, heights, slopes = parameters.split([self.bins, self.bins, self.bins - 1], -2)
        return widths, heights, slopes

    def piece(self, k: Tensor, left: Tensor, width: Tensor, bottom: Tensor, height: Tensor, slopes: Tensor) -> Piece:
        """The k-th piece; its slopes are those of the knots k and k + 1, and 1 at both ends."""
        ends = torch.stack([k - 1, k], -2)
        within = (ends >= 0) & (ends < self.bins - 1)
        found = slopes.gather(-2, ends.clamp(0, max(0, self.bins - 2))) if self.bins > 1 else within.to(width)
        d = self.slope(torch.where(within, found, 0.0))
        return Piece(left, width, bottom, height, d[..., 0, :], d[..., 1, :])

    def slope(self, a: Tensor) -> Tensor:
        """The slope at a knot of its parameter: 1 of 0."""
        return SMALLEST + softplus(a + math.log(math.expm1(1 - SMALLEST)))


class Piece(NamedTuple):
    """A rational quadratic on [left, left + width], onto [bottom, bottom + height], with the slopes at both ends."""

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    d_0: Tensor
    d_1: Tensor

    def value(self, xi: Tensor) -> Valued:
        """z and the logarithm of the slope at left + xi width, equations 4 and 5."""
        s, rest = self.height / self.width, 1 - xi
        product, square = xi * rest, xi * xi
        bend = self.d_1 + self.d_0 - 2 * s
        below = s + bend * product
        z = self.bottom + self.height * (s * square + self.d_0 * product) / below
        within = product.clamp_min(0.0)  # rounding may put x beyond its bin, where the numerator may be negative
        above = self.d_1 * square + 2 * s * within + self.d_0 * rest * rest
        return z, (above * (s / below).square()).log()

    def root(self, z: Tensor) -> Tensor:
        """xi of z, equations 6-8."""
        s, y = self.height / self.width, z - self.bottom
        bend = self.d_1 + self.d_0 - 2 * s
        a = self.height * (s - self.d_0) + y * bend
        b = self.height * self.d_0 - y * bend
        root = (b * b + 4 * a * s * y).clamp_min(0.0).sqrt()
        return (2 * s * y / (b + root)).clamp(0.0, 1.0)


class Located(torch.autograd.Function):
    """The bin that a share v of the unit interval lies in: k, and the left end and size of bin k of two partitions.

    The sizes of a partition are a softmax of (..., K, L), with a smallest value. k is found in the first partition. In
    the gradient with respect to the parameters of a partition only two numbers for each v take part.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        bins = first.shape[-2]
        spread = 1 - bins * SMALLEST
        shares = [logits.softmax(-2) for logits in (first, second)]
        sizes = [SMALLEST + spread * share for share in shares]
        upper = v.new_ones(bins, bins).tril()
        ends = [torch.matmul(upper, of_bins) for of_bins in sizes]
        k = (v[..., None, :] >= ends[0][..., :-1, :]).sum(-2)
        found = [
            values.gather(-2, k[..., None, :])[..., 0, :] for pair in zip(ends, sizes, strict=True) for values in pair
        ]
        out = (found[0] - found[1], found[1], found[2] - found[3], found[3])
        ctx.save_for_backward(*shares, k, *out)
        ctx.mark_non_differentiable(k)
        return (k, *out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: Any, *g: Tensor) -> tuple[None, Tensor, Tensor]:
        first, second, k, *out = ctx.saved_tensors
        return None, of_logits(first, k, *out[:2], *g[:2]), of_logits(second, k, *out[2:], *g[2:])


def of_logits(share: Tensor, k: Tensor, left: Tensor, size: Tensor, of_left: Tensor, of_size: Tensor) -> Tensor:
    """The gradient with respect to logits, from those with respect to the left end and the size of bin k.

    Shares p_j of the bins before k have the gradient g_j of the left end, share k that of the size, and the logits
    p_j (g_j - sum_i p_i g_i).
    """
    bins = share.shape[-2]
    mean = of_left * (left - k * SMALLEST) + of_size * (size - SMALLEST)  # sum_i p_i g_i
    spread = 1 - bins * SMALLEST
    of_left, of_size = spread * of_left, spread * of_size
    places = torch.arange(bins, device=k.device)[:, None]
    g = (places < k[..., None, :]) * of_left[..., None, :]
    g.scatter_(-2, k[..., None, :], of_size[..., None, :])
    return g.sub_(mean[..., None, :]).mul_(share)
