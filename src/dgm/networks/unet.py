"""A compact U-Net that knows the time: images in, images of the same size out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from dgm.errors import BadInput


class UNet(nn.Module):
    """Residual blocks at each resolution, attention at the lowest, a skip from each way down to the way up.

    The resolution halves until the longer side is at most 7; an image of any size is padded by repeating its edge.
    The last convolution starts at zero, so an untrained network says 0.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, appendix B.
    Differs from it: one block a level where it has two, widths (1, 2, 2, ...), the condition scales and shifts
    as in arXiv:2105.05233, section 3.

    Args:
        size: (H, W) of the images.
        inputs, outputs: Channels in and out.
        width: Channels at the full resolution, a multiple of 8; twice as many below.
        condition: Width of the vector that each block is told.
    """

    def __init__(self, size: tuple[int, int], inputs: int, outputs: int, *, width: int, condition: int) -> None:
        super().__init__()
        if width % 8:
            raise BadInput(f"the U-Net's width must be a multiple of 8, got {width}", "change it")
        levels = _levels(size)
        self.multiple = 2 ** (levels - 1)
        widths = [width] + [2 * width] * (levels - 1)
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlock(before, after, condition) for before, after in zip([width, *widths[:-1]], widths, strict=True)
        )
        self.middle = nn.ModuleList(
            [
                ResidualBlock(widths[-1], widths[-1], condition),
                SelfAttention(widths[-1]),
                ResidualBlock(widths[-1], widths[-1], condition),
            ]
        )
        self.up = nn.ModuleList(
            ResidualBlock(below + skip, skip, condition)
            for below, skip in zip([widths[-1], *widths[:0:-1]], widths[::-1], strict=True)
        )
        self.norm = nn.GroupNorm(8, width)
        self.head = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, condition) to (B, outputs, H, W)."""
        height, width = x.shape[-2:]
        h = self.stem(pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate"))
        skips = []
        for level, block in enumerate(self.down):
            h = block(_halved(h) if level else h, condition)
            skips.append(h)
        for block in self.middle:
            h = block(h, condition)
        for level, block in enumerate(self.up):
            h = block(torch.cat([_doubled(h) if level else h, skips.pop()], dim=1), condition)
        return self.head(silu(self.norm(h)))[..., :height, :width]


class ResidualBlock(nn.Module):
    """x + conv(silu(scale * norm(conv(silu(norm(x)))) + shift)), the condition giving scale and shift."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(8, before), nn.GroupNorm(8, after)
        self.conv_1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv_2 = nn.Conv2d(after, after, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * after)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition)[..., None, None].chunk(2, dim=1)
        h = self.conv_1(silu(self.norm_1(x)))
        h = self.conv_2(silu(torch.addcmul(shift, self.norm_2(h), 1 + scale)))
        return self.skip(x) + h


class SelfAttention(nn.Module):
    """Every pixel looks at every pixel, one head; it takes the condition, and ignores it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        seen = scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(seen.transpose(1, 2).reshape(x.shape))


def _levels(size: tuple[int, int]) -> int:
    levels, longer = 1, max(size)
    while longer > 7:
        levels, longer = levels + 1, -(-longer // 2)
    return levels


def _halved(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x, 2)


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")
