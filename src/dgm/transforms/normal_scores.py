r"""Normal scores: each dimension of the data as a standard normal one, by the quantiles of the training split."""

from __future__ import annotations

import torch
from torch import Tensor

from dgm.transforms.elementwise import Elementwise
from dgm.transforms.splines import Piece

REACH = 2.5  # the scores of the knots go from -REACH to REACH, as far as there are enough examples
BEYOND = 5  # examples beyond the outermost knots, at least
MOST = 1 << 20  # examples that the quantiles are of
CLOSEST = 1e-3  # of neighbouring knots, in standard deviations


class NormalScores(Elementwise):
    r"""z_d = T_d(x_d), with T_d close to Phi^-1(F_d(x_d)), for F_d the distribution function of the training split.

    T_d is a rational-quadratic spline through K knots, (x_k, z_k) with F_d(x_k) = Phi(z_k) and z_k equally spaced, and
    linear beyond them. It is monotone, its slope is continuous, and it is the identity before `fit`. A value that
    occurs so often that several quantiles are equal has one knot, at their mean score.

    Source: the transform is that of van der Waerden's scores, Order tests for the two-sample problem (1952); the slopes
    at the knots are those of Gregory & Delbourgo, Piecewise rational quadratic interpolation to monotonic data (1982),
    equation 2.9 with equal weights, the harmonic mean of the secants.

    Args:
        dim: D.
        knots: K.
    """

    x: Tensor
    z: Tensor
    slopes: Tensor

    def __init__(self, dim: int, knots: int = 21) -> None:
        super().__init__()
        line = torch.linspace(-REACH, REACH, knots, dtype=torch.float64).repeat(dim, 1)
        self.register_buffer("x", line)
        self.register_buffer("z", line.clone())
        self.register_buffer("slopes", torch.ones_like(line))

    @torch.no_grad()
    def fit(self, x: Tensor, which: Tensor | None = None) -> None:
        """Sets the knots by the quantiles of (N, D) examples, which may be NaN.

        Args:
            which: bool (D,), the dimensions to fit; the others stay the identity.
        """
        for d in range(x.shape[1]) if which is None else which.nonzero()[:, 0].tolist():
            known = x[:, d][~x[:, d].isnan()].double()
            if len(known) > 2 * BEYOND and known.std() > 0:
                self.x[d], self.z[d], self.slopes[d] = knots_of(known, self.x.shape[1])

    def value(self, x: Tensor) -> Tensor:
        piece, xi, off = self.piece(x, self.x)
        return (piece.value(xi)[0] + off * piece.d_0).to(x)

    def inverse_value(self, z: Tensor) -> Tensor:
        piece, xi, off = self.piece(z, self.z)
        return (piece.left + xi * piece.width + off / piece.d_0).to(z)

    def log_slope(self, z: Tensor) -> Tensor:
        piece, xi, off = self.piece(z, self.z)
        return torch.where(off == 0, piece.value(xi)[1], piece.d_0.log()).to(z)

    def piece(self, values: Tensor, knots: Tensor) -> tuple[Piece, Tensor, Tensor]:
        """The piece of the spline for each of (..., D) values, the place in it, and the distance beyond the knots.

        Args:
            knots: Those of x, or those of z.
        """
        v = values.double().reshape(-1, values.shape[-1]).mT.contiguous()
        k = (torch.searchsorted(knots, v, right=True) - 1).clamp(0, knots.shape[1] - 2)
        inside = torch.minimum(torch.maximum(v, knots[:, :1]), knots[:, -1:])
        off = v - inside
        x_0, x_1, z_0, z_1 = (of.gather(1, place) for of in (self.x, self.z) for place in (k, k + 1))
        slopes = [self.slopes.gather(1, place) for place in (k, k + 1)]
        piece = Piece(x_0, x_1 - x_0, z_0, z_1 - z_0, *slopes)
        xi = (inside - x_0) / piece.width if knots is self.x else piece.root(inside)
        # beyond the last knot the slope is that of its end
        piece = piece._replace(d_0=torch.where(off > 0, slopes[1], slopes[0]), d_1=slopes[1])
        return self.shaped(piece, values), back(xi, values), back(off, values)

    def shaped(self, piece: Piece, like: Tensor) -> Piece:
        return Piece(*(back(part, like) for part in piece))


def back(of_dims: Tensor, like: Tensor) -> Tensor:
    """(D, N) in the shape (..., D)."""
    return of_dims.mT.reshape(like.shape)


def knots_of(known: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, z and the slope at each knot of one dimension, (K,) each."""
    reach = min(REACH, -float(torch.special.ndtri(torch.tensor(BEYOND / len(known), dtype=torch.float64))))
    z = torch.linspace(-reach, reach, count, dtype=torch.float64)
    thinned = known[:: 1 + len(known) // MOST]  # torch's quantiles are of at most 2^24 numbers
    x = thinned.quantile(torch.special.ndtr(z))
    x, z = merged(x, z, CLOSEST * float(known.std()))
    if len(x) < 2:  # nearly all examples have one value
        line = torch.linspace(-REACH, REACH, count, dtype=torch.float64)
        return line, line, torch.ones_like(line)
    secants = z.diff() / x.diff()
    slopes = torch.cat([secants[:1], 2 / (1 / secants[1:] + 1 / secants[:-1]), secants[-1:]])
    return continued(x, z, slopes, count)


def merged(x: Tensor, z: Tensor, closest: float) -> tuple[Tensor, Tensor]:
    """Knots that are at least ``closest`` apart: of closer ones, the first, at the mean of their scores."""
    group = torch.zeros(len(x), dtype=torch.int64)
    first = 0
    for k in range(1, len(x)):
        if x[k] - x[first] >= closest:
            first = k
        group[k] = group[k - 1] + (first == k)
    count = int(group[-1]) + 1
    sizes = group.bincount(minlength=count)
    firsts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1]])
    return x[firsts], torch.zeros(count, dtype=torch.float64).index_add(0, group, z) / sizes


def continued(x: Tensor, z: Tensor, slopes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """With further knots on the line beyond the last one, ``count`` in all."""
    more = torch.arange(1, count - len(x) + 1, dtype=torch.float64)
    x, z = torch.cat([x, x[-1] + more / slopes[-1]]), torch.cat([z, z[-1] + more])
    return x, z, torch.cat([slopes, slopes[-1].expand(len(more))])
