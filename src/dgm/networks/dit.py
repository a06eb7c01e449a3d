"""The diffusion transformer (DiT) over patches of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, pad, pixel_shuffle, pixel_unshuffle

from dgm.errors import BadInput
from dgm.networks.attention import CrossAttention, attend


class DiT(nn.Module):
    """Diffusion transformer: images in, images of the same size out.

    The gates and the last layer are initialised with zeros, so each block of an untrained network is the identity and
    its output is 0. An image of any size is padded to whole patches by repeating its edge.

    Source: Scalable Diffusion Models with Transformers (Peebles & Xie, 2022), arXiv:2212.09748, section 3.2.
    The blocks are its adaLN-Zero. Differs from it: the SiLU of the condition is applied before.

    Args:
        size: (H, W) of the images.
        inputs, outputs: Channels in and out.
        width: Width of the vector of each patch, a multiple of 4 and of ``heads``.
        condition: Width of the conditioning vector.
        context: Width of a conditioning sequence, which every block's patches attend to; 0 for none.
        blocks: Number of blocks of attention and perceptron.
        heads: Heads of the attention; by default width / 32.
        patch: Side of a patch; by default 2, or 4 if the longer side of the image is above 16.
        dropout: Dropout rate of the output of each part.
    """

    positions: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        inputs: int,
        outputs: int,
        *,
        width: int,
        condition: int,
        context: int = 0,
        blocks: int = 6,
        heads: int | None = None,
        patch: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        heads = heads or max(1, width // 32)
        if width % 4 or width % heads:
            raise BadInput(
                f"the DiT's width must be a multiple of 4 and of {heads} heads, got {width}",
                f"{heads * 4} is such a width",
            )
        self.patch = patch or (2 if max(size) <= 16 else 4)
        self.grid = (-(-size[0] // self.patch), -(-size[1] // self.patch))
        self.stem = nn.Linear(inputs * self.patch**2, width)
        self.register_buffer("positions", sincos_positions(self.grid, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, condition, dropout, context) for _ in range(blocks))
        self.modulation = zeroed(nn.Linear(condition, 2 * width))
        self.head = zeroed(nn.Linear(width, outputs * self.patch**2))

    def forward(self, x: Tensor, condition: Tensor, sequence: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W), (B, condition) and (B, L, context) to (B, outputs, H, W)."""
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.patch, 0, -height % self.patch), mode="replicate")
        h = self.stem(pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            h = block(h, condition, sequence)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        patches = self.head(modulated(h, shift, scale)).transpose(1, 2).unflatten(2, self.grid)
        return pixel_shuffle(patches, self.patch)[..., :height, :width]


class Block(nn.Module):
    """Attention, then a perceptron; the condition shifts and scales the input of each and gates its output.

    If there is a conditioning sequence, the patches attend to it between the two. Source of this cross-attention:
    PixArt-alpha (Chen et al., 2023), arXiv:2310.00426, section 2.3.
    """

    def __init__(self, width: int, heads: int, condition: int, dropout: float, context: int = 0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = zeroed(nn.Linear(condition, 6 * width))
        self.cross = CrossAttention(width, context, heads) if context else None

    def forward(self, h: Tensor, condition: Tensor, sequence: Tensor | None = None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(condition)[:, None].chunk(6, dim=-1)
        h = h + gate_1 * self._dropped(self._attend(modulated(h, shift_1, scale_1)))
        if self.cross is not None and sequence is not None:
            h = self.cross(h, sequence)
        return h + gate_2 * self._dropped(self.mlp(modulated(h, shift_2, scale_2)))

    def _attend(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))

    def _dropped(self, h: Tensor) -> Tensor:
        return dropout(h, self.dropout, self.training)


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The layer norm of h, scaled by 1 + scale and shifted."""
    return torch.addcmul(shift, layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """(rows * columns, width): sin and cos of the column in the first half, of the row in the second.

    A position's frequencies are 10000^(-4k / width), k below width / 4, as in the source's code.
    """
    frequencies = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side).double() for side in grid), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


def zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
