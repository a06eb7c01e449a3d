"""Counter-based random streams: sample k depends on the seed and on k alone.

Sample k of a model does not depend on the batch size, the device, the number of processes or earlier draws: number p of
stream k is a function of (seed, k, p), computed by Philox with the counter (p, k) and a key derived from the seed. All
streams are computed in parallel by integer operations of torch on the device of the model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TypeAlias, Union

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.inputs import random_seed, whole

_MASK = (1 << 64) - 1
_LOW = (1 << 32) - 1
CACHED = 1 << 15  # blocks computed together on a CPU, whose words fit in its cache
AHEAD = 1 << 11  # fewest blocks computed together, for all streams: fewer take nearly as long


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


Pair: TypeAlias = tuple[Tensor, Tensor]


class Philox:
    r"""Philox4x32-10: maps counters, blocks of four 32-bit words, to blocks of four random words.

    Ten times, with k_0 and k_1 increased by w_0 and w_1 after each,

    .. math:: (c_0, c_1, c_2, c_3) \leftarrow
        (hi(m_1 c_2) \oplus c_1 \oplus k_0,\; lo(m_1 c_2),\; hi(m_0 c_0) \oplus c_3 \oplus k_1,\; lo(m_0 c_0))

    Source: Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011), section 3.3; constants and rounds, those
    of its library Random123.

    Args:
        key: 64 bits, of which k_0 are the lower ones.
    """

    rounds = 10
    m = (0xD2511F53, 0xCD9E8D57)
    w = (0x9E3779B9, 0xBB67AE85)

    def __init__(self, key: int, device: torch.device | str = "cpu") -> None:
        number = partial(torch.tensor, dtype=torch.int64, device=device)
        self._half, self._low = number(32), number(_LOW)
        # a round swaps the even words; here m and k are swapped instead
        keys = [[(key >> 32 * i) + r * self.w[i] & _LOW for i in (1, 0)][:: (-1) ** r] for r in range(self.rounds)]
        self._keys = number(keys)[..., None].unbind(0)
        self._m = number([self.m, self.m[::-1]])[..., None].unbind(0)

    def __call__(self, even: Tensor, odd: Tensor) -> None:
        """Replaces the words of a block by random words, in place.

        Args:
            even: int64 (2, N), the words c_0 and c_2 of N blocks.
            odd: The words c_1 and c_3.
        """
        product = torch.empty_like(even)
        (first, second), low, products = even.unbind(0), odd.unbind(0), product.unbind(0)
        for r, k in enumerate(self._keys):
            torch.mul(even, self._m[r % 2], out=product)  # modulo 2^64, where signed and unsigned agree
            torch.bitwise_right_shift(product, self._half, out=even)
            first.bitwise_xor_(low[1])
            second.bitwise_xor_(low[0])
            even.bitwise_xor_(k).bitwise_and_(self._low)
            # the odd words are the lower halves of the products; the upper halves are masked a round later
            product, odd, low, products = odd, product, products, low
        odd.bitwise_and_(self._low)


class Streams:
    """One random stream for each sample: row k of each draw comes from the stream (seed, keys[k]).

    A draw uses whole blocks of four numbers, so that the position of the next draw does not depend on the batch.
    Uniform numbers are equal on all devices, normal ones up to the rounding of logarithm and sine.

    Args:
        seed: Any integer.
        keys: The indices of the samples, such as ``range(64)``.

    Example:
        >>> ten, last = Streams(0, range(10)), Streams(0, [9])
        >>> bool((ten.normal((2, 3))[9] == last.normal((2, 3))[0]).all())
        True
    """

    def __init__(self, seed: int, keys: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._philox = Philox(mix(seed), self.device)
        self._keys = torch.tensor([key & _MASK for key in keys], dtype=torch.uint64).view(torch.int64).to(self.device)
        self._at = 0  # the next block
        self._ahead, self._first, self._end = (self._keys, self._keys), 0, 0  # blocks that are computed already

    def __len__(self) -> int:
        return len(self._keys)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """N(0, 1), of shape (n, *shape)."""
        return self._drawn(shape, box_muller)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform on the multiples of 2^-24 in [0, 1), of shape (n, *shape)."""
        return self._drawn(shape, uniforms)

    def categorical(self, logits: Tensor) -> Tensor:
        """One index for each position, int64 (n, *shape), from ``logits`` (n, *shape, values)."""
        return categorical(logits, self.uniform(logits.shape[1:-1]).to(logits.device))

    def _drawn(self, shape: Sequence[int], numbers: Callable[[Tensor, Tensor], Pair]) -> Tensor:
        """The next numbers of each stream, (n, *shape), by a function of even and odd words."""
        count = math.prod(shape)
        drawn = torch.empty(len(self), -(-count // 4), 2, 2, device=self.device)
        for where, words in self._next(drawn.shape[1]):
            for i, part in enumerate(numbers(*words)):
                drawn[where][..., i] = part.permute(1, 2, 0)
        return drawn.flatten(1)[:, :count].reshape(len(self), *shape)

    def _next(self, blocks: int) -> Iterator[tuple[tuple[slice, slice], Pair]]:
        """Parts of the next blocks: the slices of streams and blocks, and their even and odd words (2, n, blocks)."""
        n, start, self._at = len(self), self._at, self._at + blocks
        if n * blocks >= AHEAD:
            size = CACHED if self.device.type == "cpu" else n * blocks
            rows, columns = max(1, size // blocks), min(blocks, size)
            for i, j in itertools.product(range(0, n, rows), range(0, blocks, columns)):
                where = slice(i, i + rows), slice(j, min(j + columns, blocks))
                yield where, self._words(self._keys[where[0]], start + j, start + where[1].stop)
        elif n * blocks:
            if self._at > self._end:
                self._first, self._end = start, start + AHEAD // n
                self._ahead = self._words(self._keys, self._first, self._end)
            cached = slice(start - self._first, self._at - self._first)
            yield (slice(None), slice(None)), (self._ahead[0][..., cached], self._ahead[1][..., cached])

    def _words(self, keys: Tensor, start: int, end: int) -> Pair:
        """The even and the odd words (2, n, blocks) of the streams ``keys``, from block ``start`` to ``end``."""
        counter = torch.arange(start, end, device=self.device)
        even, odd = (counter.new_empty(2, len(keys), len(counter)) for _ in range(2))
        even[0], odd[0] = counter & _LOW, counter >> 32
        even[1], odd[1] = (keys & _LOW)[:, None], (keys >> 32 & _LOW)[:, None]
        self._philox(even.view(2, -1), odd.view(2, -1))
        return even, odd


def uniforms(first: Tensor, second: Tensor) -> Pair:
    """Uniform float32 numbers from the upper 24 bits of each word."""
    return (first >> 8).float().mul_(2.0**-24), (second >> 8).float().mul_(2.0**-24)


def box_muller(first: Tensor, second: Tensor) -> Pair:
    """Two independent standard normals of each pair of 32-bit words, of absolute value at most 6.8.

    Source: A note on the generation of random normal deviates (Box & Muller, 1958).
    """
    radius = first.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = second.float().mul_(2 * math.pi * 2.0**-32)
    return angle.cos().mul_(radius), angle.sin_().mul_(radius)


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """Categorical samples by inversion: the first index whose cumulative probability is above the uniform ``u``.

    An index of probability 0 is never drawn, for any u in [0, 1). ``logits`` are (*shape, values).

    Returns:
        int64 (*shape).
    """
    cumulative = logits.double().softmax(-1).cumsum(-1)
    return (cumulative <= u[..., None] * cumulative[..., -1:]).sum(-1)


# the index of this process and the number of processes that share a batch, where they draw its numbers together
SHARE: ContextVar[tuple[int, int]] = ContextVar("share", default=(0, 1))


def stratified(n: int, device: torch.device | str = "cpu") -> Tensor:
    """n stratified numbers, each uniform on [0, 1) (arXiv:2107.00630, appendix I.1).

    If several processes share the batch, the strata are those of the whole batch.
    """
    rank, world = SHARE.get()
    strata = torch.arange(rank, n * world, world, device=device)
    return (torch.rand((), device=device) + strata / (n * world)) % 1


def shuffled(n: int, values: int, device: torch.device | str = "cpu") -> Tensor:
    """n of the numbers 0 … values-1 without repetition, or all of them in turn if n is larger.

    If several processes share the batch, they are this process's of the whole batch.
    """
    return torch.randperm(values, device=device)[in_turn(n, values, device)]


def in_turn(n: int, values: int, device: torch.device | str = "cpu") -> Tensor:
    """n of the numbers 0 … values-1 in turn, again from 0 if n is larger; of a shared batch as in `shuffled`."""
    rank, world = SHARE.get()
    return torch.arange(rank, n * world, world, device=device) % values


Seed: TypeAlias = Union[int, Streams, None]


def streams(n: int, seed: Seed, device: torch.device | str = "cpu") -> Streams:
    """The streams of ``n`` samples with indices 0 … n-1; for None the seed is drawn from torch's generator.

    Raises:
        BadInput: For less than one sample, a seed that is not an integer, or streams of another number of samples.
    """
    n = whole("the number of samples", n, low=1)
    if isinstance(seed, Streams):
        if len(seed) != n:
            raise BadInput(f"expected streams of {n} samples, got {len(seed)}", "give one a sample")
        return seed
    if seed is None:
        seed = int(torch.randint(2**62, ()).item())
    return Streams(random_seed(seed), range(n), device)
