"""Randomness whose k-th part depends on the seed and on k alone.

Sample k of a model must not change with the batch size, the number of processes or what was drawn before. So each
sample draws from a generator of its own, on the CPU on every device, seeded by the pair (seed, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A 64-bit hash of integers: SplitMix64's finaliser, folded over them.

    Source: Fast splittable pseudorandom number generators (Steele, Lea & Flood, 2014), figure 16.
    """
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


class Streams:
    """One random stream a sample: row k of what it draws comes from the stream (seed, keys[k]).

    Args:
        seed: Any integer.
        keys: The samples' numbers, such as ``range(64)``.

    Example:
        >>> ten, last = Streams(0, range(10)), Streams(0, [9])
        >>> bool((ten.normal((2, 3))[9] == last.normal((2, 3))[0]).all())
        True
    """

    def __init__(self, seed: int, keys: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generators = [torch.Generator().manual_seed(mix(seed, key) >> 1) for key in keys]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """N(0, 1), of shape (n, *shape)."""
        drawn = torch.empty(len(self), *shape)
        for row, generator in zip(drawn, self._generators, strict=True):
            row.normal_(generator=generator)
        return drawn.to(self.device)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform on [0, 1), of shape (n, *shape)."""
        drawn = torch.empty(len(self), *shape)
        for row, generator in zip(drawn, self._generators, strict=True):
            row.uniform_(generator=generator)
        return drawn.to(self.device)

    def categorical(self, logits: Tensor) -> Tensor:
        """One index a position from ``logits`` (n, *shape, values); int64 (n, *shape)."""
        return categorical(logits, self.uniform(logits.shape[1:-1]).to(logits.device))


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """The index at which the distribution function passes ``u``: of ``logits`` (*shape, values) where u is uniform.

    Returns:
        int64 (*shape).
    """
    cumulative = logits.double().softmax(-1).cumsum(-1)
    return (cumulative < u[..., None] * cumulative[..., -1:]).sum(-1).clamp_max(logits.shape[-1] - 1)


def stratified(n: int, device: torch.device | str = "cpu") -> Tensor:
    """n numbers, each uniform on [0, 1) and together evenly spread (arXiv:2107.00630, appendix I.1)."""
    return (torch.rand((), device=device) + torch.arange(n, device=device) / n) % 1


Seed: TypeAlias = Union[int, Streams, None]


def streams(n: int, seed: Seed, device: torch.device | str = "cpu") -> Streams:
    """The streams of ``n`` samples: of numbers 0 … n-1 for an integer, drawn from torch's own generator for None."""
    if isinstance(seed, Streams):
        return seed
    if seed is None:
        seed = int(torch.randint(2**62, ()).item())
    return Streams(seed, range(n), device)
