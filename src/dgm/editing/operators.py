r"""Linear measurement operators of images, y = A x, with their singular value decomposition A = U S V^T.

`dgm.editing.restore` needs A, its pseudo-inverse, and :math:`V f(S) V^T`. All but the blur are tight frames,
:math:`A A^T = s^2 I`, with a single singular value s besides 0.

Source: Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (Wang et al., 2022), arXiv:2212.00490,
section 3.2, for operators and pseudo-inverses; the blur's decomposition as a product of two of one dimension, Denoising
Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, appendix D.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from dgm.errors import BadInput

# a function of singular values in float64, which are 0 on the null space
Spectrum = Callable[[Tensor], Tensor]


class Operator(ABC):
    """A linear map of images (B, C, H, W).

    Attributes:
        smallest: The smallest singular value above 0.
    """

    smallest: float

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """y = A x."""

    @abstractmethod
    def variance(self, v: Tensor) -> Tensor:
        """The variance of each number of A x, of independent pixels with the variances v (B, C, H, W)."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """The pseudo-inverse: the least-squares solution x of minimal norm."""

    @abstractmethod
    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        """V f(S) V^T x."""


class Tight(Operator):
    """An operator whose singular values are one s or 0."""

    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        kept_value, null_value = f(torch.tensor([self.smallest, 0.0], dtype=torch.float64)).tolist()
        return null_value * x + (kept_value - null_value) * self.pinv(self(x))


class Masked(Tight):
    """A mask: keeps the pixels where ``known`` (bool, broadcastable to x) is True; the others are 0."""

    smallest = 1.0

    def __init__(self, known: Tensor) -> None:
        self.known = known

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.known

    def variance(self, v: Tensor) -> Tensor:
        return v * self.known

    def pinv(self, y: Tensor) -> Tensor:
        return y * self.known


class AveragePooling(Tight):
    """Average pooling over blocks of factor × factor pixels."""

    def __init__(self, factor: int) -> None:
        self.factor, self.smallest = factor, 1 / factor

    def __call__(self, x: Tensor) -> Tensor:
        if any(size % self.factor for size in x.shape[-2:]):
            wrong = f"{x.shape[-2]} × {x.shape[-1]} pixels cannot be divided into blocks of {self.factor}"
            raise BadInput(wrong, "choose a factor that divides both sides")
        return torch.nn.functional.avg_pool2d(x, self.factor)

    def variance(self, v: Tensor) -> Tensor:
        return self(v) / self.factor**2

    def pinv(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


class Grey(Tight):
    """A grey image, the mean of three channels."""

    smallest = 3**-0.5

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(-3, keepdim=True)

    def variance(self, v: Tensor) -> Tensor:
        return self(v) / 3

    def pinv(self, y: Tensor) -> Tensor:
        return y.expand(*y.shape[:-3], 3, *y.shape[-2:])


class Blur(Operator):
    r"""A Gaussian blur with a standard deviation of ``sigma`` pixels and reflective boundaries.

    The cosines of the discrete cosine transform are its singular vectors, :math:`\exp(-\sigma^2\omega^2/2)` its
    singular values with :math:`\omega = \pi k / H`. Singular values below ``smallest`` are set to 0, since noise would
    be amplified by 1 / s.
    """

    def __init__(self, size: tuple[int, int], sigma: float, smallest: float = 0.01) -> None:
        if not sigma > 0:
            raise BadInput(f"a blur needs a standard deviation above 0, got {sigma}", "give pixels, such as 1")
        rows, columns = (_decay(length, sigma) for length in size)
        s = rows[:, None] * columns
        self.s = torch.where(s < smallest, 0.0, s)
        self.smallest = float(s[s >= smallest].min())
        self.bases = tuple(cosines(length) for length in size)
        self.decays = rows, columns

    def __call__(self, x: Tensor) -> Tensor:
        return self.spectral(lambda s: s, x)

    def variance(self, v: Tensor) -> Tensor:
        """Without the small singular values that are set to 0."""
        rows, columns = (
            (basis.mT @ (decay[:, None] * basis)).square().to(v)
            for basis, decay in zip(self.bases, self.decays, strict=True)
        )
        return rows @ v @ columns.mT

    def pinv(self, y: Tensor) -> Tensor:
        return self.spectral(lambda s: torch.where(s > 0, 1 / s, 0.0), y)

    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        rows_basis, columns_basis = (base.to(x) for base in self.bases)
        return rows_basis.T @ (f(self.s).to(x) * (rows_basis @ x @ columns_basis.T)) @ columns_basis


def cosines(length: int) -> Tensor:
    """The orthonormal type-II discrete cosine transform, float64 (length, length), one frequency in each row."""
    k, n = torch.arange(length, dtype=torch.float64)[:, None], torch.arange(length, dtype=torch.float64)
    rows = (2 / length) ** 0.5 * torch.cos(math.pi * k * (n + 0.5) / length)
    rows[0] /= 2**0.5
    return rows


def _decay(length: int, sigma: float) -> Tensor:
    omega = math.pi * torch.arange(length, dtype=torch.float64) / length
    return torch.exp(-(sigma**2) * omega.square() / 2)
