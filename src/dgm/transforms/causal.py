r"""An affine autoregressive map of a sequence of vectors, whose parameters are those of a causal transformer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from dgm.networks.causal_transformer import CausalTransformer
from dgm.transforms.transform import Mapped, Transform

CONVERGED = 8  # units in the last place of the largest number: fixed-point iterations stop at this change


class CausalAffine(Transform):
    r"""z_t = (x_t - mu_t) exp(-alpha_t), where mu_t and alpha_t are functions of x_1 … x_{t-1} and of the condition.

    The log-determinant is - sum_t sum(alpha_t). Its inverse x_t = z_t exp(alpha_t) + mu_t is computed one vector at a
    time, with the transformer's keys and values cached, or by the fixed-point iteration of the same equation for all t
    at once from x = z: after k iterations the first k vectors are right, and often all are long before.

    Source: Normalizing Flows are Capable Generative Models (Zhai et al., 2024), arXiv:2412.06329, section 2.2; the
    iteration, Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song et al., 2021),
    arXiv:2002.03629, section 3. Differs from it: the first vector is transformed too, by a start token
    or the condition; alpha is bounded by 3 tanh.

    Args:
        shape: (T, D) of the sequence.
        reverse: Whether the order of the sequence is reversed.
        condition: Width of the condition's vector, or of its vectors at each position; 0 without one.
        fixed_point: Whether the inverse is by fixed-point iteration, in place of the cache.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        reverse: bool,
        width: int,
        layers: int,
        heads: int,
        dropout: float = 0.0,
        condition: int = 0,
        fixed_point: bool = False,
    ) -> None:
        super().__init__()
        length, dim = shape
        self.reverse, self.fixed_point = reverse, fixed_point
        self.embedding = nn.Linear(dim, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.of_condition = nn.Linear(condition, width, bias=False) if condition else None
        self.body = CausalTransformer(length, width=width, layers=layers, heads=heads, dropout=dropout)
        self.head = nn.Linear(width, 2 * dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def ordered(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.reverse else x

    def bias(self, c: Tensor | None) -> Tensor:
        """The positions and the condition, which are added to every token, (B, T, width) or (1, T, width)."""
        if self.of_condition is None or c is None:
            return self.positions[None]
        h = self.of_condition(c)
        return self.positions + (self.ordered(h) if h.ndim == 3 else h[:, None])

    def parameters_of(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """mu and alpha, (B, T, D) each, of the ordered sequence."""
        start = self.start.expand(len(x), 1, -1)
        tokens = torch.cat([start, self.embedding(x[:, :-1])], 1) + self.bias(c)
        return self.read(self.body(tokens))

    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """mu and the bounded alpha of the features."""
        mu, alpha = (2 / math.sqrt(h.shape[-1]) * self.head(h)).chunk(2, -1)
        return mu, 3 * torch.tanh(alpha / 3)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        x = self.ordered(x)
        mu, alpha = self.parameters_of(x, c)
        return self.ordered((x - mu) * (-alpha).exp()), -alpha.flatten(1).sum(1)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        x, ladj = (self.by_fixed_point if self.fixed_point else self.by_cache)(self.ordered(z), c)
        return self.ordered(x), ladj

    @torch.no_grad()
    def by_cache(self, z: Tensor, c: Tensor | None) -> Mapped:
        """One vector at a time; the cache is written in place, so there are no gradients."""
        bias, cache = self.bias(c).expand(len(z), -1, -1), self.body.cache(len(z))
        h, found, ladj = self.start.expand(len(z), -1), [], z.new_zeros(len(z))
        for z_t, bias_t in zip(z.unbind(1), bias.unbind(1), strict=True):
            mu, alpha = self.read(self.body.step(h + bias_t, cache))
            found.append(z_t * alpha.exp() + mu)
            h, ladj = self.embedding(found[-1]), ladj + alpha.sum(1)
        return torch.stack(found, 1), ladj

    def by_fixed_point(self, z: Tensor, c: Tensor | None) -> Mapped:
        """All vectors at once, until none changes by more than the rounding of the largest."""
        x = z
        for _ in range(z.shape[1]):
            mu, alpha = self.parameters_of(x, c)
            x, before = z * alpha.exp() + mu, x
            if (x - before).abs().max() <= CONVERGED * torch.finfo(x.dtype).eps * x.abs().max():
                break
        return x, alpha.flatten(1).sum(1)


class Patches(Transform):
    """The sequence of the p × p patches of an image in raster order, (T, C p²); another shape is D numbers, (D, 1).

    Args:
        shape: The shape of one example; the sides of an image are multiples of the patch.
        patch: p.
    """

    def __init__(self, shape: tuple[int, ...], patch: int) -> None:
        super().__init__()
        self.shape, self.patch = shape, patch if len(shape) == 3 else 0

    @property
    def sequence(self) -> tuple[int, int]:
        """The number of patches, and of numbers in each."""
        dim = self.shape[0] * self.patch**2 or 1
        return math.prod(self.shape) // dim, dim

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        z = pixel_unshuffle(x, self.patch).flatten(2).mT if self.patch else x.flatten(1)[..., None]
        return z, x.new_zeros(len(x))

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        if self.patch:
            rows = self.shape[1] // self.patch
            x = pixel_shuffle(z.mT.unflatten(2, (rows, -1)), self.patch)
        else:
            x = z.reshape(len(z), *self.shape)
        return x, z.new_zeros(len(z))
