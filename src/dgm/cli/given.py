"""The given first part that an autoregressive model completes: an image, an array, a text or a sound."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.errors import BadInput
from dgm.inputs import how_many

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.space import Space


def start(args: argparse.Namespace, space: Space, about: dict[str, Any]) -> tuple[Tensor | None, int]:
    """The given examples, (1 or n, *shape), and the number of their first dimensions that are observed."""
    if args.given and args.prompt is not None:
        raise BadInput("both --given and --prompt", "give one of the two")
    if args.prompt is not None:
        return words(args.prompt, space, about, args.observed)
    if args.given is None:
        return None, 0
    path = Path(args.given)
    if not path.is_file():
        raise BadInput(f"there is no file {path}", "check the path")
    given, kept = reader(path)(path, space, about, args.observed)
    if len(given) not in (1, args.n):
        raise BadInput(f"{path} holds {how_many(len(given), 'example')}, expected 1 or {args.n}", "give -n as many")
    return given, kept


def reader(path: Path) -> Callable[[Path, Space, dict[str, Any], float | None], tuple[Tensor, int]]:
    """The function that reads a file with this suffix; its last argument is the observed share, None for a default."""
    from dgm.data.walk import IMAGES

    known = {".txt": written, ".wav": heard, ".npz": array, **dict.fromkeys(IMAGES, picture)}
    suffix = path.suffix.lower()
    if suffix not in known:
        raise BadInput(f"--given cannot be a '{suffix}' file", "give a picture, .npz, .txt or .wav file")
    return known[suffix]


def written(path: Path, space: Space, about: dict[str, Any], share: float | None) -> tuple[Tensor, int]:
    return words(path.read_bytes().decode(errors="surrogateescape"), space, about, share)


def words(prompt: str, space: Space, about: dict[str, Any], share: float | None) -> tuple[Tensor, int]:
    """The tokens of a text; if it is at least as long as the context, its last characters are used."""
    import torch

    from dgm.data import text

    tokens = text.encode(prompt, about)
    tokens = tokens[: number_observed(len(tokens), share, 1.0)][-(space.dim - 1) :]
    given = torch.zeros(1, space.dim, dtype=torch.int64)
    given[0, : len(tokens)] = tokens
    return given, len(tokens)


def number_observed(dimensions: int, share: float | None, usual: float) -> int:
    return round((usual if share is None else share) * dimensions)


def picture(path: Path, space: Space, about: dict[str, Any], share: float | None) -> tuple[Tensor, int]:
    """An image at the run's size. If it has the run's width and fewer rows, it is the upper part and fully observed."""
    import torch

    from dgm.data.folder import UNREADABLE, opened, pixels
    from dgm.data.palette import tokens

    if len(space.shape) != 3 or not space.discrete:
        raise BadInput(f"a picture cannot be given to a model of {space}", "give data of that space")
    channels, height, width = space.shape
    try:
        with opened(path) as image:
            rows = image.height if image.width == width and image.height < height else height
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an image", "give another") from error
    shades = torch.from_numpy(pixels(path, (3 if about.get("palette") else channels, rows, width)).copy())
    given = torch.zeros(1, *space.shape, dtype=space.dtype)
    if about.get("palette"):
        given[:, :, :rows] = tokens(shades[None], about["palette"])
    else:
        given[0, :, :rows] = (shades.double() / 255 * ((space.values or 0) - 1)).round().to(space.dtype)
    return given, number_observed(height * width, share, rows / height if rows < height else 0.5) * channels


def heard(path: Path, space: Space, about: dict[str, Any], share: float | None) -> tuple[Tensor, int]:
    import torch

    from dgm.data import sound

    if not about.get("rate") or not space.discrete:
        raise BadInput(f"a sound cannot be given to a model of {space}", "give data of that space")
    levels = sound.compress(sound.read(path, about["rate"]))
    levels = levels[: number_observed(len(levels), share, 1.0)][: space.dim]
    given = torch.full((1, *space.shape), sound.LEVELS // 2, dtype=space.dtype)
    given[0, 0, : len(levels)] = torch.from_numpy(levels)
    return given, len(levels)


def array(path: Path, space: Space, about: dict[str, Any], share: float | None) -> tuple[Tensor, int]:
    import numpy
    import torch

    try:
        x = torch.from_numpy(numpy.load(path, allow_pickle=False)["x"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} holds no array x", "write it as `dgm sample --out x.npz` does") from error
    return space.check(x), number_observed(space.dim, share, 0.5)
