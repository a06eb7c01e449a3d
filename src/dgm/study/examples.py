"""The examples of a study as files for the page, real and generated ones by the same encoder.

Files of one study have one length: images are .png files without compression, sounds have one duration, and texts are
filled with spaces. Real numbers without bounds are shown in the range of the real examples.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from dgm.data import Dataset, mel, order, sound, text
from dgm.data.palette import in_colour
from dgm.errors import BadInput, Unsupported
from dgm.protocols import Batch, Model, Samplable, has
from dgm.report.pictures import grid, view
from dgm.space import Space
from dgm.study.answers import REAL
from dgm.study.plan import Plan

Medium = Literal["image", "sound", "text"]


def medium_of(dataset: Dataset) -> Medium:
    """How an example is shown.

    Raises:
        Unsupported: For data that a person cannot judge an example of, such as points of a plane.
    """
    if text.is_text(dataset.describe()):
        return "text"
    if dataset.rate:
        return "sound"
    shape = dataset.space.shape
    if len(shape) in (3, 4) and (dataset.palette or shape[-3] in (1, 3)):
        return "image"
    raise Unsupported(f"a study shows images, clips, texts and sounds, got {dataset.space}", "study other data")


def real(plan: Plan, dataset: Dataset, split: str) -> Batch:
    """Random examples of a split.

    Raises:
        BadInput: If the split has too few.
    """
    part, n = dataset.splits[split], plan.count(REAL)
    if n > len(part):
        wrong = f"the {split} split has {len(part):,} examples, the study needs {n:,}"
        raise BadInput(wrong, "ask for fewer --trials or --pairs, or for --split train")
    x, _ = part.batch(order(len(part), plan.seed, 0)[:n], torch.Generator().manual_seed(plan.seed))
    return x


def drawing(run: str, model: Model) -> Model:
    """The model of a run.

    Raises:
        Unsupported: If it draws no samples.
    """
    if not has(model, Samplable):
        raise Unsupported(f"{run} draws no samples", "leave it out")
    return model


def files(x: Mapping[str, Batch], dataset: Dataset) -> dict[str, list[bytes]]:
    """The file of each example of each source, of which REAL is one."""
    medium, lengths = medium_of(dataset), [len(batch) for batch in x.values()]
    encode = {"image": images, "sound": sounds, "text": texts}[medium]
    encoded = encode(torch.cat([batch.to(x[REAL].dtype) for batch in x.values()]), x[REAL], dataset)
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return {name: encoded[end - n : end] for name, n, end in zip(x, lengths, ends, strict=True)}


def images(x: Tensor, real_x: Tensor, dataset: Dataset) -> list[bytes]:
    x, space = in_colour(x, within(dataset.space, real_x), dataset.describe())
    return [png(view(one[None], space) if one.ndim == 4 else grid(one[None], space, scale=1)) for one in x]


def within(space: Space, x: Tensor) -> Space:
    """The space itself, or of unbounded numbers the one with the range of ``x``."""
    if space.values or space.bounds or float(x.min()) == float(x.max()):
        return space
    return replace(space, low=float(x.min()), high=float(x.max()))


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=0)
    return out.getvalue()


def sounds(x: Tensor, _: Tensor, dataset: Dataset) -> list[bytes]:
    return [sound.wav(levels, dataset.rate) for levels in mel.to_levels(x, dataset.rate)]


def texts(x: Tensor, _: Tensor, dataset: Dataset) -> list[bytes]:
    about = dataset.describe()
    return padded([text.decode(tokens, about).encode() for tokens in x])


def padded(contents: Sequence[bytes]) -> list[bytes]:
    """All with the length of the longest, filled with spaces at the end."""
    length = max(map(len, contents))
    return [content.ljust(length) for content in contents]
