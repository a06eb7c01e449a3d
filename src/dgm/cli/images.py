"""The images and the masks of `dgm edit`: held-out examples of the run's data, or files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.space import Space

EXAMPLES = 8  # the default number of edited examples
WHITE = 250  # the smallest value, of 255, of a white pixel in a mask


def examples(args: argparse.Namespace, space: Space, about: Mapping[str, Any]) -> Tensor:
    """The examples of the user's file, or the first examples of the run's data, (B, *space.shape)."""
    import torch

    if args.given is not None:
        return given(Path(args.given), space, dict(about))
    from dgm.runs import Run

    split = Run(args.run).dataset(args.data).splits[args.split]
    if args.examples is not None and args.examples > len(split):
        raise BadInput(
            f"the {args.split} split has {len(split):,} examples, got --examples {args.examples}", "ask for fewer"
        )
    rows = torch.arange(min(args.examples or EXAMPLES, len(split)))
    x, _ = split.batch(rows, torch.Generator().manual_seed(args.seed))
    return x


def given(path: Path, space: Space, about: dict[str, Any]) -> Tensor:
    from dgm.cli.given import array, picture
    from dgm.data.walk import IMAGES

    if not path.is_file():
        raise BadInput(f"there is no file {path}", "check the path")
    readers = {".npz": array, **dict.fromkeys(IMAGES, picture)}
    if path.suffix.lower() not in readers:
        raise BadInput(f"--given cannot be a '{path.suffix}' file", "give a picture or an .npz file")
    return readers[path.suffix.lower()](path, space, about, 1.0)[0]


def missing(mask: str, space: Space) -> Tensor:
    """The mask of the missing pixels, bool (H, W)."""
    import torch

    _, height, width = space.shape
    down, across = torch.arange(height)[:, None], torch.arange(width)
    halves = {
        "top": (down < height // 2).expand(height, width),
        "bottom": (down >= height // 2).expand(height, width),
        "left": (across < width // 2).expand(height, width),
        "right": (across >= width // 2).expand(height, width),
        "centre": (abs(2 * down + 1 - height) <= height // 2) & (abs(2 * across + 1 - width) <= width // 2),
    }
    if mask in halves:
        return halves[mask]
    if not Path(mask).is_file():
        raise UnknownName.of("mask", mask, [*halves, "a picture's path"])
    return drawn(Path(mask), height, width)


def drawn(path: Path, height: int, width: int) -> Tensor:
    import numpy
    import torch
    from PIL import Image

    from dgm.data.folder import UNREADABLE

    try:
        with Image.open(path) as image:
            shades = image.convert("L").resize((width, height), Image.Resampling.NEAREST)
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an image", "give another --mask") from error
    return torch.from_numpy(numpy.asarray(shades) < WHITE)
