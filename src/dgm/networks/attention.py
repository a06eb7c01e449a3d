"""Attention of every place to every place, and to the places of another sequence."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / d^(1/2)) v of (..., L, d) each.

    Implemented by matrix products on the CPU: for the few hundred positions of a small image torch's own function is no
    faster in float32, takes two to six times as long in bfloat16, and has no forward-mode derivative.

    Source: Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, equation 1.
    """
    if q.device.type != "cpu":
        return scaled_dot_product_attention(q, k, v)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


class CrossAttention(nn.Module):
    """Adds cross-attention to h: its positions attend to another sequence. It is initialised as the identity.

    Source: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2021), arXiv:2112.10752,
    section 3.3. Differs from it: the last layer starts at zero; the normalisation has no gain and shift.

    Args:
        width: Width of h, a multiple of ``heads``.
        context: Width of the other sequence.
    """

    def __init__(self, width: int, context: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(context, 2 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, sequence: Tensor) -> Tensor:
        """(B, L, width) and (B, S, context) to (B, L, width)."""
        q = self.q(layer_norm(h, h.shape[-1:]))
        k, v = self.kv(sequence).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return h + self.out(attend(q, k, v).transpose(1, 2).flatten(2))
