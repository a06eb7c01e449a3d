"""A transformer in which no position sees a later one, at once or a position at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from dgm.errors import BadInput

CACHE = 1 << 19  # numbers of the stream that a processor's cache holds beside what the layers make of them


@dataclass
class Cache:
    """Keys and values of the positions seen so far.

    Attributes:
        layers: Copies whose weights lie in memory as a product with few rows reads them fastest.
        keys, values: For each layer (B, heads, positions, width / heads), filled up to ``length``.
    """

    layers: list[Any]
    keys: list[Tensor]
    values: list[Tensor]
    length: int = 0


class CausalTransformer(nn.Module):
    """Normalised before each part, as GPT-2; the position turns queries and keys.

    Source: Language models are unsupervised multitask learners (Radford et al., 2019), section 2.3; for the positions
    RoFormer (Su et al., 2021), arXiv:2104.09864, equation 34.
    Differs from it: no biases.

    Args:
        positions: The longest sequence.
        width: Of each position's vector, a multiple of twice ``heads``.
        dropout: Share of features left out in training, after each part.
    """

    turns: Tensor

    def __init__(self, positions: int, *, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % (2 * heads):
            raise BadInput(f"the width must be a multiple of twice the heads, got {width} and {heads}", "change one")
        self.positions, self.heads = positions, heads
        self.layers: Iterable[Any] = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("attended.weight", "down.weight")):  # what is added to the stream, smaller with its depth
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        half = width // heads // 2
        angles = torch.arange(positions)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()], 2), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, L, width) to (B, L, width)."""
        size = max(1, CACHE // h[0].numel()) if h.device.type == "cpu" else len(h)
        return self.norm(torch.cat([self.through(part) for part in h.split(size)]))

    def through(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = layer(h, self.turns[: h.shape[1]])
        return h

    def cache(self, n: int) -> Cache:
        weight = self.norm.weight
        shape = (n, self.heads, self.positions, len(weight) // self.heads)
        keys, values = ([weight.new_zeros(shape) for _ in self.layers] for _ in range(2))
        return Cache([by_columns(layer) for layer in self.layers], keys, values)

    def step(self, h: Tensor, cache: Cache) -> Tensor:
        """The next position's (B, width) to (B, width); its keys and values join the cache."""
        t = cache.length
        for layer, keys, values in zip(cache.layers, cache.keys, cache.values, strict=True):
            h = layer.step(h, self.turns[t], keys, values, t)
        cache.length += 1
        return self.norm(h)


class NextToken(nn.Module):
    """Logits of every token given those before it; the first is given a start token, one for each label.

    Args:
        symbols: How many tokens there are.
        positions: The longest sequence.
        outputs: Numbers that a position gives.
        classes: Labels to condition on; 0 for none.
        learned: Whether each position has a vector of its own, added to its token's, too.
    """

    def __init__(
        self,
        symbols: int,
        positions: int,
        outputs: int,
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        classes: int,
        learned: bool,
    ) -> None:
        super().__init__()
        self.start, self.tokens = nn.Embedding(max(classes, 1), width), nn.Embedding(symbols, width)
        self.positions = nn.Embedding(positions, width) if learned else None
        for module in (self.start, self.tokens, *([self.positions] if self.positions else [])):
            nn.init.normal_(module.weight, std=0.02)
        self.body = CausalTransformer(positions, width=width, layers=layers, heads=heads, dropout=dropout)
        self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, s: Tensor, y: Tensor | None) -> Tensor:
        """(B, L) tokens to (B, L, outputs); the last token is looked at by no one."""
        h = torch.cat([self.first(len(s), y)[:, None], self.tokens(s[:, :-1].long())], 1)
        if self.positions is not None:
            h = h + self.positions.weight[: h.shape[1]]
        return self.head(self.body(h))

    def steps(self, s: Tensor, order: list[int], y: Tensor | None) -> Iterator[Tensor]:
        """The same position by position, (B, outputs) each; ``s`` is filled in ``order`` between them."""
        cache, h = self.body.cache(len(s)), self.first(len(s), y)
        for position, place in enumerate(order):
            if self.positions is not None:
                h = h + self.positions.weight[position]
            yield self.head(self.body.step(h, cache))
            h = self.tokens(s[:, place].long())

    def first(self, n: int, y: Tensor | None) -> Tensor:
        return self.start.weight.expand(n, -1) if y is None else self.start(y)


class Layer(nn.Module):
    """Attention, then a two-layer perceptron, each added to what came."""

    def __init__(self, width: int, heads: int, share: float) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, h: Tensor, turns: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in self.heads_of(h, turns[:, None, None]))
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.dropped(self.attended(attended.transpose(1, 2).flatten(2)))
        return h + self.dropped(self.perceptron(h))

    def step(self, h: Tensor, turns: Tensor, keys: Tensor, values: Tensor, t: int) -> Tensor:
        """(B, width), of position t, to (B, width)."""
        q, keys[:, :, t], values[:, :, t] = self.heads_of(h, turns)
        attended = scaled_dot_product_attention(q[:, :, None], keys[:, :, : t + 1], values[:, :, : t + 1])
        h = h + self.attended(attended.flatten(1))
        return h + self.perceptron(h)

    def heads_of(self, h: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned, and values of (..., width): (..., heads, width / heads) each."""
        qk, v = self.qkv(self.norm_1(h)).split((2 * h.shape[-1], h.shape[-1]), -1)
        q, k = turned(qk.unflatten(-1, (2, self.heads, -1)), turns).unbind(-3)
        return q, k, v.unflatten(-1, (self.heads, -1))

    def perceptron(self, h: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(self.norm_2(h))))

    def dropped(self, h: Tensor) -> Tensor:
        return dropout(h, self.share, self.training) if self.share else h


def by_columns(layer: nn.Module) -> nn.Module:
    """A copy whose matrices lie in memory column by column."""
    copied = copy.deepcopy(layer)
    for parameter in copied.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.mT.contiguous().mT
    return copied


def turned(h: Tensor, turns: Tensor) -> Tensor:
    """Each pair (h_2i, h_2i+1) of a head's features, turned by its position's angle, of cosine and sine (..., i, 2)."""
    pairs = torch.view_as_complex(h.to(turns.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(turns)).flatten(-2)
