"""A U-Net that knows the time: images in, images of the same size out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from dgm.errors import BadInput
from dgm.networks.attention import CrossAttention, attend
from dgm.networks.norm import NormSiLU


class UNet(nn.Module):
    """Residual blocks at each resolution, attention at the lowest, a skip from each way down to the way up.

    Each level has half the resolution of the one before; an image of any size is padded by repeating its edge. The last
    convolution starts at zero, so an untrained network says 0, and so does the last one of each block.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, appendix B; the condition
    scales and shifts as in Diffusion Models Beat GANs (Dhariwal & Nichol, 2021), arXiv:2105.05233, equation 3.
    Differs from it: as many blocks on the way up as on the way down, the last of a level with the channels of the level
    above; means and repetition change the resolution, with no convolution of their own; one head; 8 groups.

    Args:
        size: (H, W) of the images.
        inputs, outputs: Channels in and out.
        width: Channels at the full resolution, a multiple of 8.
        condition: Width of the conditioning vector.
        context: Width of a conditioning sequence, which pixels attend to wherever they attend to each other; 0 for
            none.
        multipliers: Channels at each level, in ``width``; as a rule (1, 2, 2, ...) until a side is at most 7.
        blocks: Residual blocks a level, each way: one number for all levels, or one each.
        attention: The longest side at which pixels look at each other; 0 for never. As a rule the lowest level's.
        dropout: Of the second convolution's input.
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
        levels = len(multipliers)
        self.multiple = 2 ** (levels - 1)
        blocks = [blocks] * levels if isinstance(blocks, int) else list(blocks)
        if len(blocks) != levels:
            raise BadInput(f"expected blocks for {levels} levels, got {len(blocks)}", "give one number a level")
        widths = [width * multiplier for multiplier in multipliers]
        sides = [-(-max(size) // 2**level) for level in range(levels)]
        attends = [side <= (sides[-1] if attention is None else attention) for side in sides]

        def block(before: int, skip: int, after: int, level: int, resample: nn.Module) -> ResidualBlock:
            attending = (attends[level], context if attends[level] else 0)
            return ResidualBlock(before + skip, after, condition, *attending, resample=resample, dropout=dropout)

        same, halved, doubled = nn.Identity(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for level in range(levels):
            for k in range(blocks[level]):
                self.down.append(block(before, 0, widths[level], level, halved if level and not k else same))
                before = widths[level]
        for _ in range(2):
            self.middle.append(block(before, 0, before, -1, same))
        for level in reversed(range(levels)):
            for k in range(blocks[level]):
                above = level if k < blocks[level] - 1 else max(level - 1, 0)
                resample = doubled if level < levels - 1 and not k else same
                self.up.append(block(before, widths[level], widths[above], level, resample))
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

    x is what comes, in another resolution, beside what skipped the levels below.
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
    """Every pixel looks at every pixel, one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width, affine=False)  # gain and shift would be no more than those of q, k and v
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x.contiguous())  # whose norm is slow in channels_last, and has no forward derivative
        q, k, v = self.qkv(h).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        return x + self.out(attend(q, k, v).transpose(1, 2).reshape(x.shape))


def usual_multipliers(size: tuple[int, int]) -> list[int]:
    """(1, 2, 2, ...), a level more for as long as the longer side is above 7."""
    multipliers, longer = [1], max(size)
    while longer > 7:
        multipliers, longer = [*multipliers, 2], -(-longer // 2)
    return multipliers


def zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
