r"""The cells of R^E that represent the values of x, and the noise within a cell.

A value x is represented by the cell C(x), the set of all v that `Cells.floor` maps to x. Cells do not overlap, so a
density p on R^E is a model of x, and with a density q(v|x) on the cell

.. math:: P(x) = \int_{C(x)} p(v) \, dv = E_{q(v|x)} \frac{p(v)}{q(v|x)} \ge \exp E_{q(v|x)} [\log p(v) - \log q(v|x)]

where the expectation is below P(x) if q is 0 in a part of the cell.

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, section 3.1; with any q,
Flow++ (Ho et al., 2019), arXiv:1902.00275, equation 12.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dgm.protocols import Batch, Module, PerExample
from dgm.space import Space
from dgm.transforms.normal_scores import NormalScores

MIDDLE = 0.5  # the share of a bit's cell that its noise is drawn from, around the centre


@runtime_checkable
class Cells(Protocol):
    """The conversion of the values of a space to real numbers, and back.

    Attributes:
        box: The space of v.
        method: A short description for the method of a likelihood.
    """

    box: Space
    method: str

    def lift(self, x: Batch) -> tuple[Tensor, PerExample | float]:
        """v ~ q(v|x), and log q(v|x)."""
        ...

    def centre(self, x: Batch) -> Tensor:
        """One v of the cell of x, away from its walls."""
        ...

    def floor(self, v: Tensor) -> Batch:
        """The x whose cell contains v."""
        ...


class UnitCells(nn.Module):
    """The cell of the integer x is [x, x + 1), and q is uniform. Numbers outside [0, K) belong to the nearest cell."""

    method = "uniform dequantisation"

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.box = Space.continuous(space.shape, low=0.0, high=float(space.values or 0))

    def lift(self, x: Batch) -> tuple[Tensor, PerExample | float]:
        x = x.to(torch.get_default_dtype())
        # x + u may be rounded up to the next integer, which is in another cell
        return torch.minimum(x + torch.rand_like(x), torch.nextafter(x + 1, x)), 0.0

    def centre(self, x: Batch) -> Tensor:
        return x + 0.5

    def floor(self, v: Tensor) -> Batch:
        return v.floor().clamp(0, (self.space.values or 0) - 1).to(self.space.dtype)


class RecordCells(nn.Module):
    r"""The values of a record, which may be missing, as vectors of E standardised real numbers.

    Each part is represented by consecutive dimensions of v. An optional part begins with one bit, which is 1 if the
    value is missing. A real number is one dimension; an integer or a boolean k is the unit cell [k, k + 1); a category
    is its index in binary, ceil(log2 K) bits from the lowest to the highest, so that 50,000 categories need 16
    dimensions. Each dimension is shifted and scaled, v = (c - loc) / scale, by the location and scale of the part, or
    by those of a uniform distribution over its cells. The densities of the noise are

    * for a real number, whose cell is one point: log p(x) = log p(v) - log scale, as if log q = log scale;
    * for an integer, uniform on its cell of length 1 / scale: log q = log scale;
    * for a bit, uniform on the middle half of its cell: log q = log scale + log 2, so that the tails of a smooth
      density seldom cross the boundary of the cell, which would flip the bit;
    * for a number with normal scores z = T(v), see `dgm.transforms.NormalScores`: log T'(v) less, of either kind;
    * for the dimensions of a missing part, whose cell is all of R: v ~ N(0, 1) and log q = log N(v; 0, 1).

    Binary codes without a category are mapped to the last category. A number beyond the first or the last value of an
    integer, or beyond the bounds of a real number, is reflected there: a smooth density always reaches a little further
    than the data, and otherwise all of these samples would have the first or the last value. A cell thus has a mirror
    image, which q leaves out.

    Args:
        space: A record.
        knots: Of the normal scores of each real number and integer, which `fit` sets; 0 for none.
    """

    method = "uniform dequantisation"

    loc: Tensor
    scale: Tensor
    counted: Tensor
    bit: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: Space, knots: int = 0) -> None:
        super().__init__()
        self.space = space
        rows = [row for _, part in space.parts for row in dimensions(part)]
        self.box = Space.continuous((len(rows),))
        for name, values in zip(Dimension._fields, zip(*rows, strict=True), strict=True):
            dtype = torch.bool if isinstance(values[0], bool) else torch.float64
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)
        self.scores = NormalScores(len(rows), knots) if knots else None

    @torch.no_grad()
    def fit(self, x: Batch) -> None:
        """Sets the normal scores by the quantiles of the training examples, integers with noise in their cells."""
        if self.scores is None:
            return
        c, hidden = self.coordinates(x)
        u = torch.rand(c.shape, generator=torch.Generator().manual_seed(0), dtype=c.dtype).to(c.device)
        standardised = (c + self.counted * u - self.loc) / self.scale
        self.scores.fit(standardised.masked_fill(hidden, torch.nan), ~self.bit)

    def scored(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The normal scores of standardised numbers, and the logarithm of the slope there."""
        if self.scores is None:
            return v, torch.zeros_like(v)
        z = self.scores.value(v)
        return z, self.scores.log_slope(z)

    def unscored(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `scored`, and the logarithm of the slope of `scored` there."""
        if self.scores is None:
            return z, torch.zeros_like(z)
        return self.scores.inverse_value(z), self.scores.log_slope(z)

    def lift(self, x: Batch) -> tuple[Tensor, PerExample | float]:
        shape = (len(x), *self.box.shape)
        u, eps = (draw(shape, dtype=torch.float64, device=x.device) for draw in (torch.rand, torch.randn))
        v, log_q = self.noisy(x, u, eps)
        return v.to(torch.get_default_dtype()), log_q.sum(1)

    def noisy(self, x: Batch, u: Tensor, eps: Tensor, share: float = MIDDLE) -> tuple[Tensor, Tensor]:
        """v as a function of uniform and of normal numbers (B, E), and log q of each of its dimensions.

        Args:
            share: The share of a bit's cell that its noise is drawn from.
        """
        c, hidden = self.coordinates(x)
        shares = torch.where(self.bit, share, 1.0)
        v = (c + self.counted * (0.5 + shares * (u - 0.5)) - self.loc) / self.scale
        v, log_slope = self.scored(v)
        log_q = torch.where(hidden, log_normal(eps), (self.scale / shares).log() - log_slope)
        return torch.where(hidden, eps, v), log_q

    def log_noise(self, v: Tensor, x: Batch) -> PerExample:
        """log q(v|x) of noise that is uniform on the whole cells of bits too; minus infinity outside of the cells."""
        standardised, log_slope = self.unscored(v.double())
        c, (c_0, hidden) = standardised * self.scale + self.loc, self.coordinates(x)
        counted = (c >= c_0) & (c < c_0 + 1)
        inside = torch.where(self.counted, counted, (c >= self.low) & (c <= self.high))
        log_q = torch.where(inside, self.scale.log() - log_slope, -torch.inf)
        return torch.where(hidden, log_normal(v.double()), log_q).sum(1)

    def spread(self, observed: Tensor, *, present: bool) -> Tensor:
        """Which dimensions of v the observed numbers of x determine, (B, E).

        Args:
            observed: bool (B, D), all numbers of a part or none.
            present: Whether the others are known not to be missing, which determines their first bit.
        """
        found = []
        for (_, part), place in zip(self.space.parts, self.space.places.values(), strict=True):
            seen = observed[:, place]
            if part.optional:
                found.append(seen[:, :1] | present)
            found.append(seen.repeat_interleave(bits_of(part), 1) if part.kind == "categories" else seen)
        return torch.cat(found, 1)

    def centre(self, x: Batch) -> Tensor:
        c, hidden = self.coordinates(x)
        v = self.scored((c + 0.5 * self.counted - self.loc) / self.scale)[0]
        return v.masked_fill(hidden, 0.0).to(torch.get_default_dtype())

    def coordinates(self, x: Batch) -> tuple[Tensor, Tensor]:
        """c before noise is added, (B, E) float64, and which dimensions a missing part hides."""
        found, hidden = [], []
        for (_, part), place in zip(self.space.parts, self.space.places.values(), strict=True):
            values = x[:, place].double()
            missing = values.isnan().any(1, keepdim=True)
            values = values.nan_to_num(0.0)
            if part.optional:
                found.append(missing.double())
                hidden.append(torch.zeros_like(missing))
            if part.kind == "categories":
                values = binary(values.long(), bits_of(part)).double()
            found.append(values)
            hidden.append(missing.expand(-1, values.shape[1]))
        return torch.cat(found, 1), torch.cat(hidden, 1)

    def floor(self, v: Tensor) -> Batch:
        c = self.unscored(v.double())[0] * self.scale + self.loc
        c = torch.where(self.bit, c, reflected(c, self.low, self.high + self.counted.double()))
        c = torch.where(self.counted, c.floor(), c).clamp(self.low, self.high)
        parts, start = [], 0
        for _, part in self.space.parts:
            missing = None
            if part.optional:
                missing, start = c[:, start, None] > 0, start + 1
            size = part.dim * (bits_of(part) if part.kind == "categories" else 1)
            values, start = c[:, start : start + size], start + size
            if part.kind == "categories":
                values = number(values.long(), bits_of(part), part.dim).clamp(max=(part.values or 0) - 1).double()
            parts.append(values if missing is None else values.masked_fill(missing, torch.nan))
        return torch.cat(parts, 1)


def log_normal(v: Tensor) -> Tensor:
    """log N(v; 0, 1) of each number."""
    return -0.5 * (v.square() + math.log(2 * math.pi))


class Dimension(NamedTuple):
    """One dimension of v: (c - loc) / scale, with c from ``low`` to ``high``.

    Attributes:
        counted: Whether c is discrete, with noise in the cell [c, c + 1).
        bit: Whether the noise is in the middle half of the cell only.
    """

    loc: float
    scale: float
    counted: bool
    bit: bool
    low: float
    high: float


def reflected(c: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Numbers beyond a wall, mirrored at it; numbers further away than the other wall stay.

    Example:
        >>> reflected(torch.tensor([-0.25, 0.5, 2.25, 9.0]), torch.tensor(0.0), torch.tensor(2.0))
        tensor([0.2500, 0.5000, 1.7500, 9.0000])
    """
    mirrored = torch.where(c < low, 2 * low - c, torch.where(c > high, 2 * high - c, c))
    return torch.where((mirrored < low) | (mirrored > high), c, mirrored)


def levels(values: int) -> Dimension:
    """Of 0 … values - 1, with the moments of the uniform distribution on [0, values)."""
    return Dimension(values / 2, values / math.sqrt(12), True, False, 0.0, values - 1.0)


BIT = levels(2)._replace(bit=True)


def dimensions(part: Space) -> list[Dimension]:
    """Those of one part of a record."""
    flag = [BIT] if part.optional else []
    if part.kind in ("binary", "categories"):
        return flag + [BIT] * (part.dim * bits_of(part))
    if part.discrete:
        one, half = levels(part.values or 0), 0.5
    elif part.bounds is not None:
        low, high = part.bounds
        return flag + [Dimension((low + high) / 2, (high - low) / 2, False, False, low, high)] * part.dim
    else:
        one, half = Dimension(0.0, 1.0, False, False, -math.inf, math.inf), 0.0
    locs = [loc + half for loc in part.loc] or [one.loc] * part.dim
    return flag + [
        one._replace(loc=loc, scale=scale)
        for loc, scale in zip(locs, part.scale or [one.scale] * part.dim, strict=True)
    ]


def bits_of(part: Space) -> int:
    """Bits of a category's number.

    Example:
        >>> [bits_of(Space.categories(k)) for k in (1, 2, 3, 50_000)]
        [0, 1, 2, 16]
    """
    return ((part.values or 1) - 1).bit_length()


def binary(k: Tensor, bits: int) -> Tensor:
    """(B, n) numbers to (B, n * bits) bits, the lowest of each first.

    Example:
        >>> binary(torch.tensor([[6, 1]]), 3)
        tensor([[0, 1, 1, 1, 0, 0]])
    """
    return ((k[..., None] >> torch.arange(bits, device=k.device)) & 1).flatten(1)


def number(b: Tensor, bits: int, n: int) -> Tensor:
    """The inverse of `binary`, for n numbers."""
    return (b.reshape(len(b), n, bits) << torch.arange(bits, device=b.device)).sum(-1)


def cells(space: Space, knots: int = 0) -> UnitCells | RecordCells:
    """Those of a space of ordered integers, or of a record."""
    return RecordCells(space, knots) if space.kind == "record" else UnitCells(space)


def fit_cells(model: Module, x: Batch) -> None:
    """Sets the normal scores of all records in a model by the training data."""
    for part in model.modules():
        if isinstance(part, RecordCells):
            part.fit(x)
