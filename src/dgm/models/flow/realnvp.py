r"""Flow of affine couplings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pixel_shuffle, pixel_unshuffle, softplus

from dgm.distributions.scaling import Scaling
from dgm.modes import evaluated
from dgm.networks.conv import ConvNet
from dgm.networks.embeddings import check_labels, sampled_labels
from dgm.networks.mlp import mlp
from dgm.protocols import Batch, Labels, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

ALPHA = 0.05  # of the logit, section 4.1


class RealNVP(nn.Module):
    r"""Affine coupling flow, exact log-density.

    .. math:: \log p(x) = \log N(f(x); 0, I) + \log |\det \partial f / \partial x|

    A coupling keeps the dimensions where b = 1 and moves the others by functions of them (equation 9):
    z = b x + (1 - b)(x exp(s(b x)) + t(b x)), with log-determinant sum (1 - b) s (equation 6). Images alternate
    checkerboard masks, are squeezed to half the side and four times the channels, and alternate channel masks.
    The density is with respect to Lebesgue measure in the data's own units, in nats.

    Source: Density estimation using Real NVP (Dinh et al., 2016), arXiv:1605.08803, equations 4-9, section 3.4 and, for
    bounded x, the logit of section 4.1. Differs from it: one squeeze and nothing factored out between scales; no batch
    normalisation; s is bounded by 2 tanh; networks see their labels.

    Args:
        space: Continuous, of shape (D,) or (C, H, W). Discrete data is dequantised by `dgm.create`.

    Example:
        >>> flow = RealNVP(Space.continuous((2,)), RealNVP.Config(layers=2))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        layers: int = setting(8, "couplings", low=2, high=1000)
        hidden: int = setting(32, "width, or channels, of the networks in the couplings", low=1)
        blocks: int = setting(1, "residual blocks, or hidden layers, of each network", low=1, high=1000)
        dropout: float = setting(0.0, "share of hidden units left out in training", low=0.0, high=0.95)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    spaces: ClassVar[set[str]] = {"continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "ema": 0.999, "clip": 50.0, "warmup": 100, "weight_decay": 0.01}
    likelihood_method = "change of variables"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        image = len(space.shape) == 3
        squeezes = image and space.shape[1] % 2 == space.shape[2] % 2 == 0
        before = config.layers // 2 if squeezes else config.layers
        self.couplings = nn.ModuleList(self.coupling(space.shape, k) for k in range(before))
        if squeezes:
            c, h, w = space.shape
            self.squeezed = nn.ModuleList(
                self.coupling((4 * c, h // 2, w // 2), k, channels=True) for k in range(before, config.layers)
            )
        else:
            self.squeezed = nn.ModuleList()

    def coupling(self, shape: tuple[int, ...], k: int, *, channels: bool = False) -> AffineCoupling:
        image = len(shape) == 3
        sizes = [shape[0] + self.config.classes, self.config.hidden, 2 * shape[0]]
        network: nn.Module = (
            ConvNet(*sizes, blocks=self.config.blocks, dropout=self.config.dropout)
            if image
            else mlp(
                [sizes[0], *[self.config.hidden] * (self.config.blocks + 1), sizes[2]], dropout=self.config.dropout
            )
        )
        mask = (torch.arange(shape[0]) < shape[0] // 2).view(-1, 1, 1) if channels else checkerboard(shape)
        return AffineCoupling(mask ^ bool(k % 2), network)

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        z, ladj = self.forward(x, y)
        normal = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
        return normal + ladj

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y)

    @evaluated
    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, next(self.parameters()).device)
        y = sampled_labels(y, self, noise)
        with torch.no_grad():
            return self.decode(noise.normal(self.space.shape), y)

    def encode(self, x: Batch, y: Labels | None = None) -> Tensor:
        """z = f(x), of x's own shape."""
        return self.forward(x, y)[0]

    def forward(self, x: Batch, y: Labels | None = None) -> tuple[Tensor, Tensor]:
        """f(x) and log |det df/dx|, (B,)."""
        y = self.planes(check_labels(y, self.config.classes))
        z, ladj = self.unbounded(x)
        z, ladj = through(self.couplings, z, y, ladj)
        if self.squeezed:
            z, ladj = through(self.squeezed, pixel_unshuffle(z, 2), y, ladj)
            z = pixel_shuffle(z, 2)
        return z, ladj

    def decode(self, z: Tensor, y: Labels | None = None) -> Batch:
        """x = f^-1(z)."""
        y = self.planes(check_labels(y, self.config.classes))
        if self.squeezed:
            z = pixel_shuffle(back(self.squeezed, pixel_unshuffle(z, 2), y), 2)
        return self.bounded(back(self.couplings, z, y))

    def unbounded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x itself standardised, or the logit of bounded x, and the log-determinant of that."""
        v = self.scaling(x)
        if self.space.bounds is None:
            return v, self.scaling.ladj.expand(len(x))
        z = (0.5 + (0.5 - ALPHA) * v).logit()
        # dz/dp = 1 / (p (1 - p)), and log p(1 - p) = -softplus(z) - softplus(-z)
        logit_ladj = (softplus(z) + softplus(-z)).flatten(1).sum(1)
        return z, logit_ladj + self.space.dim * math.log(0.5 - ALPHA) + self.scaling.ladj

    def bounded(self, z: Tensor) -> Tensor:
        if self.space.bounds is None:
            return self.scaling.inverse(z)
        return self.scaling.inverse((z.sigmoid() - 0.5) / (0.5 - ALPHA))

    def planes(self, y: Labels | None) -> Tensor | None:
        return None if y is None else one_hot(y, self.config.classes).to(next(self.parameters()))


class AffineCoupling(nn.Module):
    """z = b x + (1 - b)(x exp(s) + t), s and t functions of b x.

    Args:
        mask: b, true where x is kept; broadcast against one example.
        network: From b x, with the label's planes behind it, to s and t, twice the channels. Its last layer starts at
        0.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mask", mask, persistent=False)
        last = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def scale_and_shift(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        kept = x * self.mask
        if y is not None:
            kept = torch.cat([kept, y.view(*y.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])], 1)
        s, t = self.network(kept).chunk(2, 1)
        moved = ~self.mask
        return 2 * torch.tanh(s / 2) * moved, t * moved

    def forward(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(x, y)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, y: Tensor | None) -> Tensor:
        s, t = self.scale_and_shift(z, y)
        return (z - t) * (-s).exp()


def checkerboard(shape: tuple[int, ...]) -> Tensor:
    """Neighbours differ: (D,) alternates, (1, H, W) is a checkerboard for all channels."""
    if len(shape) == 1:
        return torch.arange(shape[0]) % 2 == 0
    return ((torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 2 == 0)[None]


def through(couplings: Iterable[nn.Module], z: Tensor, y: Tensor | None, ladj: Tensor) -> tuple[Tensor, Tensor]:
    for coupling in couplings:
        z, more = coupling(z, y)
        ladj = ladj + more
    return z, ladj


def back(couplings: nn.ModuleList, z: Tensor, y: Tensor | None) -> Tensor:
    for coupling in reversed(couplings):
        z = coupling.inverse(z, y)  # type: ignore[operator]
    return z
