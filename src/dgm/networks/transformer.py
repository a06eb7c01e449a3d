"""A bidirectional transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Transformer(nn.Module):
    """A bidirectional transformer with pre-normalisation, learned positions and a condition added to each position.

    The last layer is initialised with zeros, so all logits of an untrained network are equal.

    Source: Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, with the normalisation of
    arXiv:2002.04745, section 3.2.

    Args:
        positions: L, the length of the sequences.
        symbols: Size of the input vocabulary.
        outputs: Number of outputs at each position.
        width: Width of the vector of each position, a multiple of ``heads``.
    """

    def __init__(self, positions: int, symbols: int, outputs: int, *, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.positions = nn.Parameter(0.02 * torch.randn(positions, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, condition: Tensor | None = None, sequence: Tensor | None = None) -> Tensor:
        """Maps int64 (B, L) and (B, width) to (B, L, outputs); a sequence (B, S, width) is placed before the tokens."""
        h = self.embedding(tokens) + self.positions
        if condition is not None:
            h = h + condition[:, None]
        if sequence is not None:
            h = torch.cat([sequence, h], 1)
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h[:, -tokens.shape[1] :]))


class Layer(nn.Module):
    """Attention, then a two-layer perceptron, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self._attend(self.norm_1(h))
        return h + self.mlp(self.norm_2(h))

    def _attend(self, h: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(h).chunk(3, dim=-1))
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
