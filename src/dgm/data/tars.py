"""Tar files of images and labels in the format of WebDataset, which are read without being unpacked.

Files with the same name form one example, such as ``000012.jpg`` and ``000012.cls``; the latter contains the number of
the label. The headers are read once; then each example is read at its offset in the tar file. Only images and numbers
are decoded.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dgm.data import walk
from dgm.data.dataset import Dataset
from dgm.data.lazy import Encoded, dataset, drawn_parts, shape_of
from dgm.errors import BadInput
from dgm.inputs import how_many

LABEL = "cls"
PICKLES = {"pyd", "pkl", "pickle", "pth", "pt", "ckpt", "joblib", "dill"}  # reading them could run code
MOST_DIGITS = 5  # digits of a label


@dataclass(frozen=True)
class Member:
    """A file inside a tar file."""

    tar: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) != self.size:
            raise BadInput(f"{self.tar} ends within {self.name}", "take it from a copy")
        return content


def load(path: Path, *, size: int | None = None, grey: bool = False, seed: int = 0) -> Dataset:
    """Images of 256 levels, as `dgm.data.folder` loads them. A thousand of the images decide the shape.

    In each epoch the tar files are read in another order, and each `dgm.data.dataset.WINDOW` consecutive examples are
    shuffled, so that each file is read sequentially. As every order of examples, this order is a function of the seed
    and of the epoch.

    Args:
        path: A .tar file, or a folder of them.

    Raises:
        BadInput: If a tar file is damaged, or holds a pickle or an image without a label, with the file's name.
    """
    tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    examples = [list(examples_of(tar)) for tar in tars]
    images = [image for shard in examples for image, _ in shard]
    if len(images) < 10:
        raise BadInput(f"{path} holds {how_many(len(images), 'image')}, expected at least 10", "give more images")
    y = labels([label for shard in examples for _, label in shard], images)

    def read(row: int) -> Encoded:
        return Encoded(images[row].read(), f"{images[row].tar}: {images[row].name}")

    shape = shape_of(read, len(images), size, grey=grey)
    names = () if y is None else tuple(map(str, range(int(y.max()) + 1)))
    split = f"80 / 10 / 10 %, seed {seed}"
    shards = [len(shard) for shard in examples]
    return dataset(str(path), read, drawn_parts(len(images), seed), shape, y, names, split=split, shards=shards)


def examples_of(tar: Path) -> Iterator[tuple[Member, Member | None]]:
    """The image and the label of each example, in the order of the file."""
    examples: dict[str, dict[str, Member]] = {}
    for member in members(tar):
        folder, _, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        ending = ending.lower()
        if ending.rpartition(".")[2] in PICKLES:
            raise BadInput(f"{tar} holds a pickle, {member.name}, which dgm does not read", "pack it without")
        kind = "image" if f".{ending}" in walk.IMAGES else ending
        parts = examples.setdefault(f"{folder}/{stem}", {})
        if kind in parts:
            raise BadInput(f"{tar} holds two files for one example, {member.name}", "pack one of them")
        parts[kind] = member
    return ((parts["image"], parts.get(LABEL)) for parts in examples.values() if "image" in parts)


def members(tar: Path) -> Iterator[Member]:
    """The regular files. A compressed file cannot be read at an offset, and links may point outside the tar file."""
    try:
        with tarfile.open(tar, "r:") as opened:
            for member in opened:
                if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                    yield Member(tar, member.name, member.offset_data, member.size)
                opened.members = []  # type: ignore[attr-defined]  # this list would grow with the file
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadInput(
            f"{tar} is not a plain tar file: {error}", "take it from a copy, or unpack and pack it"
        ) from error


def labels(label_files: Sequence[Member | None], images: Sequence[Member]) -> torch.Tensor | None:
    """The labels, (N,) int64; None if no image has a label."""
    if not any(label_files):
        return None
    return torch.tensor([label_of(label, image) for label, image in zip(label_files, images, strict=True)])


def label_of(label: Member | None, image: Member) -> int:
    if label is None:
        raise BadInput(f"{image.tar}: {image.name} has no .{LABEL} beside it, others have", "label all or none")
    text = label.read().strip() if label.size <= 2 * MOST_DIGITS else b""
    if not text.isdigit() or len(text) > MOST_DIGITS:
        raise BadInput(f"{label.tar}: {label.name} holds no label's number", "write a whole number from 0 there")
    return int(text)
