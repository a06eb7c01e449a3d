r"""What a measurement sees of an image: linear maps y = A x with their singular value decomposition A = U S V^T.

`dgm.editing.restore` asks for no more than A, its pseudo-inverse, and :math:`V f(S) V^T`. All but the blur are tight,
:math:`A A^T = s^2 I`: what they see they scale by one s, what they don't see by 0.

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

# of singular values in float64, 0 where nothing is seen
Spectrum = Callable[[Tensor], Tensor]


class Operator(ABC):
    """A linear map of images (B, C, H, W).

    Attributes:
        least: Its least singular value above 0.
    """

    least: float

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """y = A x."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """The least x of those with the A x that is nearest to y."""

    @abstractmethod
    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        """V f(S) V^T x."""


class Tight(Operator):
    """One that scales all that it sees alike."""

    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        seen, unseen = f(torch.tensor([self.least, 0.0], dtype=torch.float64)).tolist()
        return unseen * x + (seen - unseen) * self.pinv(self(x))


class Masked(Tight):
    """Keeps the pixels that are ``known``, bool, of a shape that multiplies x; the others are 0."""

    least = 1.0

    def __init__(self, known: Tensor) -> None:
        self.known = known

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.known

    def pinv(self, y: Tensor) -> Tensor:
        return y * self.known


class AveragePooling(Tight):
    """The mean of each block of factor × factor pixels."""

    def __init__(self, factor: int) -> None:
        self.factor, self.least = factor, 1 / factor

    def __call__(self, x: Tensor) -> Tensor:
        if any(size % self.factor for size in x.shape[-2:]):
            wrong = f"{x.shape[-2]} × {x.shape[-1]} pixels cannot be parted into blocks of {self.factor}"
            raise BadInput(wrong, "choose a factor that divides both sides")
        return torch.nn.functional.avg_pool2d(x, self.factor)

    def pinv(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


class Grey(Tight):
    """The mean of three channels."""

    least = 3**-0.5

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(-3, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        return y.expand(*y.shape[:-3], 3, *y.shape[-2:])


class Blur(Operator):
    r"""A Gaussian of standard deviation ``sigma`` pixels, the image mirrored at its borders.

    The cosines of the discrete cosine transform are its singular vectors, :math:`\exp(-\sigma^2\omega^2/2)` its
    singular values with :math:`\omega = \pi k / H`. Those below ``least`` are 0: noise would be amplified by 1 / s.
    """

    def __init__(self, size: tuple[int, int], sigma: float, least: float = 0.01) -> None:
        if not sigma > 0:
            raise BadInput(f"a blur needs a standard deviation above 0, got {sigma}", "give pixels, such as 1")
        rows, columns = (_fall(length, sigma) for length in size)
        s = rows[:, None] * columns
        self.s = torch.where(s < least, 0.0, s)
        self.least = float(s[s >= least].min())
        self.bases = tuple(cosines(length) for length in size)

    def __call__(self, x: Tensor) -> Tensor:
        return self.spectral(lambda s: s, x)

    def pinv(self, y: Tensor) -> Tensor:
        return self.spectral(lambda s: torch.where(s > 0, 1 / s, 0.0), y)

    def spectral(self, f: Spectrum, x: Tensor) -> Tensor:
        down, across = (base.to(x) for base in self.bases)
        return down.T @ (f(self.s).to(x) * (down @ x @ across.T)) @ across


def cosines(length: int) -> Tensor:
    """The orthonormal type-II discrete cosine transform, float64 (length, length), a frequency a row."""
    k, n = torch.arange(length, dtype=torch.float64)[:, None], torch.arange(length, dtype=torch.float64)
    rows = (2 / length) ** 0.5 * torch.cos(math.pi * k * (n + 0.5) / length)
    rows[0] /= 2**0.5
    return rows


def _fall(length: int, sigma: float) -> Tensor:
    omega = math.pi * torch.arange(length, dtype=torch.float64) / length
    return torch.exp(-(sigma**2) * omega.square() / 2)
