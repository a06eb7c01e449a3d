r"""Coupling layers: one part of x is transformed with parameters that are functions of the other part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dgm.networks.columns import ColumnMLP
from dgm.networks.maps import resized
from dgm.transforms.transform import Mapped, Transform
from dgm.transforms.univariate import Affine, Univariate, Valued


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
        start_at_zero(network)

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


def start_at_zero(network: nn.Module) -> None:
    """Sets the weights of the last layer to 0, so that a coupling is the identity at first."""
    last = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


class ChannelCoupling(Transform):
    r"""z = f(x; h(x_kept, c)) for one half of the channels of an image; the other half is kept.

    Source: arXiv:1605.08803, section 3.4, channel-wise masks, with any monotone f.

    Args:
        network: Maps the kept channels, concatenated with the condition, to the parameters of f: those of a channel
            follow one another. Its last layer is initialised at 0.
        univariate: f; `Affine` by default.
        swapped: Whether the second half is kept, and not the first.
    """

    def __init__(self, network: nn.Module, univariate: Univariate | None = None, *, swapped: bool = False) -> None:
        super().__init__()
        self.network, self.swapped = network, swapped
        self.univariate = Affine() if univariate is None else univariate
        start_at_zero(network)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        return self.applied(x, c, self.univariate.forward)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        return self.applied(z, c, self.univariate.inverse)

    def applied(self, x: Tensor, c: Tensor | None, univariate: Callable[[Tensor, Tensor], Valued]) -> Mapped:
        kept, moved = x.chunk(2, 1)[:: -1 if self.swapped else 1]
        parameters = self.network(kept if c is None else beside(kept, c)).flatten(2)
        z, slopes = univariate(moved.flatten(2), parameters.unflatten(1, (moved.shape[1], -1)))
        halves = [kept, z.view_as(moved)]
        return torch.cat(halves[:: -1 if self.swapped else 1], 1), slopes.flatten(1).sum(1)


class VectorCoupling(Transform):
    r"""z_d = f(x_d; h_d(x_kept, c)) for the dimensions d that are moved, with a monotone f; the others are kept.

    The log-determinant is the sum of log f'(x_d). Only the kept dimensions enter the network, a multilayer perceptron,
    and only the parameters of moved ones leave it. Source: as of `AffineCoupling`, with any f.

    Args:
        mask: (D,), true for the dimensions that are kept.
        univariate: f; `Affine` by default.
        hidden: The widths of the network's hidden layers.
        context: The number of features of the condition c (B, K).
        dropout: The dropout rate of the hidden units.
    """

    kept: Tensor
    moved: Tensor

    def __init__(
        self,
        mask: Tensor,
        univariate: Univariate | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.univariate = Affine() if univariate is None else univariate
        self.register_buffer("kept", torch.where(mask)[0], persistent=False)
        self.register_buffer("moved", torch.where(~mask)[0], persistent=False)
        inputs = len(self.kept) + context
        self.constant = inputs == 0  # one dimension that depends on nothing
        outputs = len(self.moved) * self.univariate.parameters
        self.network = ColumnMLP([inputs or 1, *hidden, outputs], dropout)
        start_at_zero(self.network)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        return self.applied(x, c, self.univariate.forward)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        return self.applied(z, c, self.univariate.inverse)

    def applied(self, x: Tensor, c: Tensor | None, univariate: Callable[[Tensor, Tensor], Valued]) -> Mapped:
        x = x.mT.contiguous()
        z, slopes = univariate(x.index_select(0, self.moved), self.parameters_of(x, c))
        return x.index_copy(0, self.moved, z).mT, slopes.sum(0)

    def parameters_of(self, x: Tensor, c: Tensor | None) -> Tensor:
        """(moved, P, B) of x (D, B): examples are the last axis."""
        kept = x.new_zeros(1, x.shape[1]) if self.constant else x.index_select(0, self.kept)
        outputs = self.network(kept if c is None else torch.cat([kept, c.mT]))
        return outputs.unflatten(0, (len(self.moved), self.univariate.parameters))


def beside(x: Tensor, c: Tensor) -> Tensor:
    """x and the condition c, concatenated along the channels.

    Args:
        x: (B, C, ...).
        c: (B, K), the same at every position of x, or maps (B, K, H, W), interpolated to the size of x.
    """
    if c.dim() == 4:
        return torch.cat([x, resized(c, x.shape[2:])], 1)
    return torch.cat([x, c.view(*c.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])], 1)


def checkerboard(shape: tuple[int, ...]) -> Tensor:
    """A mask whose neighbours differ: (D,) alternates, (1, H, W) is a checkerboard for all channels."""
    if len(shape) == 1:
        return torch.arange(shape[0]) % 2 == 0
    return ((torch.arange(shape[1])[:, None] + torch.arange(shape[2])) % 2 == 0)[None]


def alternating(dim: int, layer: int) -> Tensor:
    """The mask (D,) that keeps the even or, in odd layers, the odd dimensions; a single one is never kept."""
    return (torch.arange(dim) % 2 == layer % 2) & (dim > 1)
