"""A causal transformer, for whole sequences and for one position at a time with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, layer_norm, scaled_dot_product_attention

from dgm.errors import BadInput
from dgm.networks.condition_embedding import ConditionEmbedding
from dgm.networks.conditions import is_label
from dgm.space import Space

CACHE = 1 << 19  # numbers of the residual stream that fit into the CPU's cache together with the features of a layer


class Weights(NamedTuple):
    """The weights of a layer with matrices (in, out), the fastest layout for products with few rows."""

    norm_1: Tensor
    qkv: Tensor
    attended: Tensor
    norm_2: Tensor
    up: Tensor
    down: Tensor


@dataclass
class Cache:
    """Keys and values of all positions so far.

    Attributes:
        layers: The weights of each layer.
        keys, values: For each layer (B, heads, positions, width / heads), filled up to ``length``.
    """

    layers: list[Weights]
    keys: list[Tensor]
    values: list[Tensor]
    length: int = 0


class CausalTransformer(nn.Module):
    """A causal transformer as GPT-2, with layer normalisation before each part and rotary position embedding.

    Source: Language models are unsupervised multitask learners (Radford et al., 2019), section 2.3; for the positions
    RoFormer (Su et al., 2021), arXiv:2104.09864, equation 34.
    Differs from it: no biases.

    Args:
        positions: The longest sequence.
        width: Width of the vector of each position, a multiple of twice ``heads``.
        dropout: Dropout rate after each part.
    """

    rotary: Tensor

    def __init__(self, positions: int, *, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % (2 * heads):
            raise BadInput(f"the width must be a multiple of twice the heads, got {width} and {heads}", "change one")
        self.positions, self.heads = positions, heads
        self.layers: Iterable[Any] = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith(
                ("attended.weight", "down.weight")
            ):  # outputs added to the residual stream, scaled by its depth
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        half = width // heads // 2
        angles = torch.arange(positions)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        self.register_buffer("rotary", torch.stack([angles.cos(), angles.sin()], 2), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, L, width) to (B, L, width)."""
        size = max(1, CACHE // h[0].numel()) if h.device.type == "cpu" else len(h)
        return self.norm(torch.cat([self.through(part) for part in h.split(size)]))

    def through(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = layer(h, self.rotary[: h.shape[1]])
        return h

    def cache(self, n: int) -> Cache:
        weight = self.norm.weight
        shape = (n, self.heads, self.positions, len(weight) // self.heads)
        keys, values = ([weight.new_zeros(shape) for _ in self.layers] for _ in range(2))
        return Cache([layer.weights() for layer in self.layers], keys, values)

    def step(self, h: Tensor, cache: Cache) -> Tensor:
        """The next position, (B, width) to (B, width); its keys and values are appended to the cache."""
        t = cache.length
        for weights, keys, values in zip(cache.layers, cache.keys, cache.values, strict=True):
            h = step(h, weights, self.rotary[t], keys, values, t)
        cache.length += 1
        return self.norm(h)


class NextToken(nn.Module):
    """The logits of every token given the tokens before it; the first one is given a start token or the condition.

    Each label has its own start token; any other condition is a prefix, the sequence of its embedding.

    Args:
        symbols: Size of the vocabulary.
        positions: The longest sequence.
        outputs: Number of outputs at each position.
        condition: The space of y; None for no condition.
        learned: Whether to add a learned position embedding.
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
        condition: Space | None,
        learned: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(symbols, width)
        single = condition is None or is_label(condition)
        self.start: Any = nn.Embedding((condition and condition.values) or 1, width) if single else None
        self.condition = None if condition is None or single else ConditionEmbedding(condition, width)
        self.prefix = 1 if self.condition is None else self.condition.length  # places before the first token
        positions += self.prefix - 1
        self.positions = nn.Embedding(positions, width) if learned else None
        for module in (self.start, self.tokens, self.positions):
            if module is not None:
                nn.init.normal_(module.weight, std=0.02)
        self.body = CausalTransformer(positions, width=width, layers=layers, heads=heads, dropout=dropout)
        self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, s: Tensor, y: Tensor | None) -> Tensor:
        """Maps (B, L) tokens to (B, L, outputs); no output depends on the last token."""
        h = torch.cat([self.first(len(s), y), self.tokens(s[:, :-1].long())], 1)
        if self.positions is not None:
            h = h + self.positions.weight[: h.shape[1]]
        return self.head(self.body(h)[:, self.prefix - 1 :])

    def sequential_conditionals(self, s: Tensor, order: list[int], y: Tensor | None) -> Iterator[Tensor]:
        """The same position by position, (B, outputs) each; ``s`` is filled in ``order`` between them."""
        cache = self.body.cache(len(s))

        def step(h: Tensor) -> Tensor:
            return self.body.step(h if self.positions is None else h + self.positions.weight[cache.length], cache)

        *before, h = self.first(len(s), y).unbind(1)
        for earlier in before:
            step(earlier)
        for place in order:
            yield self.head(step(h))
            h = self.tokens(s[:, place].long())

    def first(self, n: int, y: Tensor | None) -> Tensor:
        """The vectors before the first token, (n, prefix, width)."""
        if self.condition is not None:
            return torch.cat(self.condition.sequences(y, n), 1)
        return (self.start.weight.expand(n, -1) if y is None else self.start(y))[:, None]


class Layer(nn.Module):
    """Residual attention, then a residual two-layer perceptron."""

    def __init__(self, width: int, heads: int, share: float) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, h: Tensor, rotary: Tensor) -> Tensor:
        by_head = heads_of(self.qkv(self.norm_1(h)), self.heads, rotary[:, None, None])
        q, k, v = (part.transpose(1, 2) for part in by_head)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.dropped(self.attended(attended.transpose(1, 2).flatten(2)))
        return h + self.dropped(self.down(gelu(self.up(self.norm_2(h)))))

    def dropped(self, h: Tensor) -> Tensor:
        return dropout(h, self.share, self.training) if self.share else h

    def weights(self) -> Weights:
        """Copies of the matrices, for `step`."""
        qkv, attended, up, down = (m.weight.mT.contiguous() for m in (self.qkv, self.attended, self.up, self.down))
        return Weights(self.norm_1.weight, qkv, attended, self.norm_2.weight, up, down)


def step(h: Tensor, weights: Weights, rotary: Tensor, keys: Tensor, values: Tensor, t: int) -> Tensor:
    """`Layer` of position t alone, (B, width) to (B, width). Without calls of modules, for speed."""
    shape = h.shape[1:]
    qkv = layer_norm(h, shape, weights.norm_1) @ weights.qkv
    q, keys[:, :, t], values[:, :, t] = heads_of(qkv, keys.shape[1], rotary)
    attended = scaled_dot_product_attention(q[:, :, None], keys[:, :, : t + 1], values[:, :, : t + 1])
    h = h + attended.flatten(1) @ weights.attended
    return h + gelu(layer_norm(h, shape, weights.norm_2) @ weights.up) @ weights.down


def heads_of(qkv: Tensor, heads: int, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, rotated, and values of (..., 3 width): (..., heads, width / heads) each."""
    width = qkv.shape[-1] // 3
    qk, v = qkv.split((2 * width, width), -1)
    q, k = rotated(qk.unflatten(-1, (2, heads, -1)), rotary).unbind(-3)
    return q, k, v.unflatten(-1, (heads, -1))


def rotated(h: Tensor, rotary: Tensor) -> Tensor:
    """Each pair (h_2i, h_2i+1) of a head's features, rotated by its position's angle, as cosine and sine (..., 2)."""
    pairs = torch.view_as_complex(h.to(rotary.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(rotary)).flatten(-2)
