"""Networks with a Lipschitz constant below one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, softplus
from torch.nn.utils.parametrize import register_parametrization

ITERATIONS = 20  # of the power method, of each convolution


class LipSwish(nn.Module):
    """x sigmoid(softplus(beta) x) / 1.1, whose derivative is at most 1 in absolute value and is not 0 for large x.

    Source: Residual Flows for Invertible Generative Modeling (Chen et al., 2019), arXiv:1906.02735, equation 10.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(softplus(self.beta) * x) / 1.1


class Contraction(nn.Module):
    r"""The parametrisation W c / max(c, \|W\|) of a weight, whose norm is at most c.

    The norm of a matrix is exact; that of a 3×3 convolution is found by 20 iterations of the power method from a fixed
    image, which is at most the norm, and in practice a few per cent below.

    Source: Invertible Residual Networks (Behrmann et al., 2019), arXiv:1811.00995, equation 2 and section 2.1.
    Differs from it: the norm is that of the weights as they are, so that no state is updated in training.

    Args:
        start: The image, (1, inputs, H, W); of a matrix it has no use.
        coefficient: c.
    """

    image: Tensor

    def __init__(self, start: Tensor, coefficient: float) -> None:
        super().__init__()
        self.coefficient = coefficient
        self.register_buffer("image", start / start.norm(), persistent=False)

    def norm(self, weight: Tensor) -> Tensor:
        """The largest singular value of the weight, a scalar."""
        if weight.ndim == 2:
            return torch.linalg.matrix_norm(weight, 2)
        x = self.image
        with torch.no_grad():
            for _ in range(ITERATIONS):
                x = conv_transpose2d(conv2d(x, weight, padding=1), weight, padding=1)
                x = x / x.norm()
        return conv2d(x, weight, padding=1).norm()

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.coefficient / self.norm(weight).clamp_min(self.coefficient))


def contractive(inputs: int, outputs: int, size: tuple[int, ...], coefficient: float) -> nn.Module:
    """A linear layer, or a 3×3 convolution of images of size (H, W), whose norm is at most the coefficient."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1) if size else nn.Linear(inputs, outputs)
    start = torch.randn(1, inputs, *size, generator=torch.Generator().manual_seed(0))
    return register_parametrization(layer, "weight", Contraction(start, coefficient))


def lipschitz(sizes: Sequence[int], size: tuple[int, ...], coefficient: float) -> nn.Module:
    """Contractive layers of these sizes, LipSwish between them: a constant of at most coefficient^layers.

    Args:
        size: (H, W) of the images; () for vectors.
    """
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [LipSwish(), contractive(before, after, size, coefficient)]
    return nn.Sequential(*parts[1:])
