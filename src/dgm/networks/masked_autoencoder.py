"""A masked autoencoder of images, whose encoder's maps are features of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from dgm.networks.conv import sizes

PATCH, HIDDEN = 2, 0.5  # the side of a patch in pixels, and the probability that it is zeroed
CHANNELS = 8  # of each group that is normalised


class Stage(nn.Module):
    """Halves an image and applies one residual block to it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, outputs // CHANNELS), outputs) for _ in range(2))
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.norms[0](self.down(x)))
        return silu(h + self.norms[1](self.conv(h)))


class MaskedAutoencoder(nn.Module):
    """Maps of an image at several scales, trained to restore patches that are zeroed.

    Source: the encoder of Generative Modeling via Drifting (Deng et al., 2026), arXiv:2602.04770, appendix A.3, after
    Masked Autoencoders Are Scalable Vision Learners (He et al., 2022). Differs from it: one block a stage; no
    augmentation; the classifier of ``labels`` is trained from the start, and not in a fine-tuning.

    Args:
        shape: (C, H, W).
        width: Channels of the first map, doubled in each that follows.
        labels: Of which the mean of the last map is a classifier's input; 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], width: int, labels: int = 0) -> None:
        super().__init__()
        stages = max(1, len(sizes(*shape[1:])) - 1)
        widths = [shape[0], *(width * 2**k for k in range(stages))]
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(widths))
        self.restore = nn.ModuleList(
            nn.Conv2d(a + b, b, 3, padding=1) for a, b in pairwise([*reversed(widths[1:]), shape[0]])
        )
        self.classifier = nn.Linear(widths[-1], labels) if labels else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map of each stage, (B, C_k, H_k, W_k), the finest first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def restored(self, x: Tensor, hidden: Tensor) -> Tensor:
        """x from its pixels that are not ``hidden``, (B, 1, H, W) bool."""
        seen = x.masked_fill(hidden, 0.0)
        maps = self(seen)
        h = maps[-1]
        for conv, finer in zip(self.restore, [*reversed(maps[:-1]), seen], strict=True):
            h = conv(torch.cat([interpolate(silu(h), finer.shape[2:]), finer], 1))
        return h


def random_patches(x: Tensor) -> Tensor:
    """Which pixels of images are hidden, (B, 1, H, W): those of patches that are chosen at random."""
    height, width = x.shape[2:]
    side = PATCH if min(height, width) > PATCH else 1  # of one whole patch nothing would be left to restore it from
    chosen = torch.rand(len(x), 1, -(-height // side), -(-width // side), device=x.device) < HIDDEN
    return chosen.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
