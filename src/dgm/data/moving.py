"""Clips of a digit that moves to the left or to the right, and returns on the other side: procedural and seeded.

Source: Temporal Difference Variational Auto-Encoder (Gregor et al., 2019), arXiv:1806.03107, section 5.2. Differs from
it: the digits are binarised at half of the largest level; 10 frames for MNIST, 8 for scikit-learn's digits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dgm.data import digits, images
from dgm.data.dataset import Dataset, Split
from dgm.data.lazy import Indexed
from dgm.space import Space

SEED = 0
FRAMES, SHORT = 10, 8
COPIES = 8  # clips of each digit in the training split in memory


class Clips(Indexed):
    """Clips that are indexed like a tensor (N, T, 1, H, W) uint8; indexing draws their frames.

    Clip k shows image k, from a column and in a direction that are drawn with the seed; frame t is the image moved by t
    pixels.
    """

    def __init__(self, pictures: Tensor, frames: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.pictures, self.frames = pictures, frames
        self.width = pictures.shape[-1]
        self.start = torch.randint(self.width, (len(pictures),), generator=generator)
        self.step = 2 * torch.randint(2, (len(pictures),), generator=generator) - 1
        self.shape = torch.Size((len(pictures), frames, *pictures.shape[1:]))

    def __getitem__(self, index: Any) -> Tensor:
        rows = torch.arange(len(self))[index]
        flat = rows.reshape(-1)
        moved = self.start[flat, None] + self.step[flat, None] * torch.arange(self.frames)
        source = (torch.arange(self.width) - moved[..., None]) % self.width
        still = self.pictures[flat][:, None].expand(-1, self.frames, -1, -1, -1)
        clips = still.gather(4, source[:, :, None, None].expand(still.shape))
        return clips.view(*rows.shape, *self.shape[1:])

    def fingerprint(self) -> str:
        """The sha256 of the shape, the images, the columns and the directions."""
        digest = hashlib.sha256(repr(tuple(self.shape)).encode())
        for tensor in (self.pictures, self.start, self.step):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def moving_digits(_: str = "") -> Dataset:
    """Clips of scikit-learn's digits, in memory."""
    return moving(digits.load(), SHORT, in_memory=True)


def moving_mnist(folder: Path) -> Dataset:
    """Clips of MNIST; those of the training split are drawn when a batch is loaded."""
    return moving(images.mnist(folder), FRAMES, in_memory=False)


def moving(still: Dataset, frames: int, *, in_memory: bool) -> Dataset:
    half = ((still.space.values or 0) - 1) / 2
    splits: dict[str, Any] = {}
    for k, (name, split) in enumerate(still.splits.items()):
        copies = COPIES if in_memory and name == "train" else 1
        pictures, y = (split.x > half).to(torch.uint8), split.y
        clips = Clips(pictures.repeat(copies, 1, 1, 1), frames, SEED + k)
        splits[name] = Split(
            clips[:] if in_memory or name != "train" else cast(Tensor, clips), None if y is None else y.repeat(copies)
        )
    return Dataset(
        name=f"moving_{still.name}",
        space=Space.binary((frames, *still.space.shape)),
        split=f"{still.split}; a column and a direction for each digit, seed {SEED}",
        condition=still.condition,
        names=still.names,
        **splits,
    )
