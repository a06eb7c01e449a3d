"""A conditional U-Net: images in, images of the same size out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from dgm.errors import BadInput
from dgm.networks.attention import CrossAttention, attend
from dgm.networks.norm import NormSiLU


class UNet(nn.Module):
    """A U-Net of residual blocks at each resolution, with attention at the lowest and skip connections.

    Each resolution is half of the one before; an image of any size is padded by repeating its edge. The last
    convolution is initialised with zeros, so the output of an untrained network is 0, and so is the last one of each
    block.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, appendix B; the condition
    scales and shifts as in Diffusion Models Beat GANs (Dhariwal & Nichol, 2021), arXiv:2105.05233, equation 3.
    Differs from it: the decoder has as many blocks as the encoder, and the last block of a resolution has the channels
    of the next higher one; average pooling and nearest-neighbour upsampling have no further convolution; one head; 8
    groups.

    Args:
        size: (H, W) of the images.
        inputs, outputs: Channels in and out.
        width: Channels at the full resolution, a multiple of 8.
        condition: Width of the conditioning vector.
        context: Width of a conditioning sequence, which pixels attend to wherever they attend to each other; 0 for
            none.
        multipliers: Channels at each resolution, in units of ``width``; by default (1, 2, 2, ...) until a side is at
            most 7.
        blocks: Residual blocks at each resolution, down and up: one number, or one for each resolution.
        attention: The longest side with self-attention; 0 for none. By default the lowest resolution has it.
        dropout: Dropout rate of the input of the second convolution.
    """

    def __init__(
        self,
        size: tuple[int, int],
        inputs: int,
        outputs: int,
        *,
        width: int,
        condition: int,
        context: int = 0,
        multipliers: Sequence[int] | None = None,
        blocks: int | Sequence[int] = 1,
        attention: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % 8:
            raise BadInput(
                f"the U-Net's width must be a multiple of 8, got {width}", f"{max(8, width // 8 * 8)} is such a width"
            )
        multipliers = multipliers or usual_multipliers(size)
        resolutions = len(multipliers)
        self.multiple = 2 ** (resolutions - 1)
        blocks = [blocks] * resolutions if isinstance(blocks, int) else list(blocks)
        if len(blocks) != resolutions:
            raise BadInput(
                f"expected blocks for {resolutions} resolutions, got {len(blocks)}", "give one number for each"
            )
        widths = [width * multiplier for multiplier in multipliers]
        sides = [-(-max(size) // 2**index) for index in range(resolutions)]
        attends = [side <= (sides[-1] if attention is None else attention) for side in sides]

        def block(before: int, skip: int, after: int, index: int, resample: nn.Module) -> ResidualBlock:
            attending = (attends[index], context if attends[index] else 0)
            return ResidualBlock(before + skip, after, condition, *attending, resample=resample, dropout=dropout)

        same, halved, doubled = nn.Identity(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for index in range(resolutions):
            for k in range(blocks[index]):
                self.down.append(block(before, 0, widths[index], index, halved if index and not k else same))
                before = widths[index]
        for _ in range(2):
            self.middle.append(block(before, 0, before, -1, same))
        for index in reversed(range(resolutions)):
            for k in range(blocks[index]):
                above = index if k < blocks[index] - 1 else max(index - 1, 0)
                resample = doubled if index < resolutions - 1 and not k else same
                self.up.append(block(before, widths[index], widths[above], index, resample))
                before = widths[above]
        self.norm = NormSiLU(widths[0])
        self.head = zeroed(nn.Conv2d(widths[0], outputs, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor, sequence: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W), (B, condition) and (B, L, context) to (B, outputs, H, W)."""
        height, width = x.shape[-2:]
        h = self.stem(pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate"))
        h = h.contiguous(memory_format=torch.channels_last)  # a sixth faster than channels first, on the CPU
        skips = []
        for block in self.down:
            h = block(h, condition, sequence)
            skips.append(h)
        for block in self.middle:
            h = block(h, condition, sequence)
        for block in self.up:
            h = block(h, condition, sequence, skips.pop())
        return self.head(self.norm(h))[..., :height, :width]


class ResidualBlock(nn.Module):
    """x + conv(silu(scale * norm(conv(silu(norm(x)))) + shift)), the condition giving scale and shift; attention.

    x is the resampled input, concatenated with the skip connection if there is one.
    """

    def __init__(
        self,
        before: int,
        after: int,
        condition: int,
        attention: bool,
        context: int = 0,
        *,
        resample: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.resample, self.dropout = resample, dropout
        self.norm_1, self.norm_2 = NormSiLU(before), NormSiLU(after, condition)
        self.conv_1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv_2 = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.residual = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.attention = SelfAttention(after) if attention else nn.Identity()
        self.cross = CrossAttention(after, context) if context else None

    def forward(
        self, x: Tensor, condition: Tensor, sequence: Tensor | None = None, skipped: Tensor | None = None
    ) -> Tensor:
        x = self.resample(x)
        if skipped is not None:
            x = torch.cat([x, skipped], dim=1)
        h = self.norm_2(self.conv_1(self.norm_1(x)), condition)
        x = self.attention(self.residual(x) + self.conv_2(dropout(h, self.dropout, self.training)))
        if self.cross is None or sequence is None:
            return x
        return self.cross(x.flatten(2).mT, sequence).mT.reshape(x.shape)


class SelfAttention(nn.Module):
    """Self-attention over pixels with one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width, affine=False)  # gain and shift are redundant with q, k and v
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x.contiguous())  # group norm is slow in channels_last, and has no forward-mode derivative
        q, k, v = self.qkv(h).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        return x + self.out(attend(q, k, v).transpose(1, 2).reshape(x.shape))


def usual_multipliers(size: tuple[int, int]) -> list[int]:
    """(1, 2, 2, ...), with another resolution while the longer side is above 7."""
    multipliers, longer = [1], max(size)
    while longer > 7:
        multipliers, longer = [*multipliers, 2], -(-longer // 2)
    return multipliers


def zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
