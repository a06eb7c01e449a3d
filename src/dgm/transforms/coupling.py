r"""Coupling layers: one part of x is transformed with parameters that are functions of the other part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgm.transforms.transform import Mapped, Transform


class AffineCoupling(Transform):
    r"""z = b x + (1 - b)(x exp(s) + t), where s and t are functions of b x and of the condition.

    The log-determinant is sum (1 - b) s. Source: Density estimation using Real NVP (Dinh et al., 2016),
    arXiv:1605.08803, equations 6 and 9. Differs from it: s is bounded by 2 tanh(s / 2).

    Args:
        mask: b, true where x is unchanged; broadcast against one example.
        network: Maps b x, concatenated with the condition along the channels, to s and t, which have twice the
            channels. Its last layer is initialised at 0, so the coupling is the identity at first.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mask", mask, persistent=False)
        last = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def scale_and_shift(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        unchanged = x * self.mask
        s, t = self.network(unchanged if c is None else beside(unchanged, c)).chunk(2, 1)
        moved = ~self.mask
        return 2 * torch.tanh(s / 2) * moved, t * moved

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        s, t = self.scale_and_shift(x, c)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        s, t = self.scale_and_shift(z, c)
        return (z - t) * (-s).exp(), -s.flatten(1).sum(1)


def beside(x: Tensor, c: Tensor) -> Tensor:
    """x and the condition c, (B, K), concatenated along the channels; c is the same at every position of x."""
    return torch.cat([x, c.view(*c.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])], 1)


def checkerboard(shape: tuple[int, ...]) -> Tensor:
    """A mask whose neighbours differ: (D,) alternates, (1, H, W) is a checkerboard for all channels."""
    if len(shape) == 1:
        return torch.arange(shape[0]) % 2 == 0
    return ((torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 2 == 0)[None]
