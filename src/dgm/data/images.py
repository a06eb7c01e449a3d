"""MNIST and its variants, and CIFAR-10, from their published files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset, Split, labelled
from dgm.data.palette import clustered
from dgm.data.stacked import stacked
from dgm.errors import BadInput
from dgm.memory import refuse_a_bomb
from dgm.space import Space

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINARISATION_SEED = 1


def mnist(folder: Path, form: str = "grey") -> Dataset:
    """MNIST or Fashion-MNIST, from their idx.gz files; the last 10,000 training images are the validation split.

    Args:
        form: "grey" for the grey levels, "dynamic" for `dynamic_mnist`.
    """
    if form == "dynamic":
        return dynamic_mnist(folder)
    x, y = (read_idx(folder / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    test_x, test_y = (read_idx(folder / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    x, test_x, y, test_y = x[:, None], test_x[:, None], y.long(), test_y.long()
    held_out = len(x) // 6
    return Dataset(
        name=folder.name,
        space=Space.levels(tuple(x.shape[1:]), 256),
        train=Split(x[:-held_out], y[:-held_out]),
        validation=Split(x[-held_out:], y[-held_out:]),
        test=Split(test_x, test_y),
        split="as published; the last sixth of the training images is the validation split",
        **labelled(CLOTHES if folder.name == "fashion_mnist" else DIGITS),
    )


def dynamic_mnist(folder: Path) -> Dataset:
    """MNIST with pixels drawn from Bernoulli(x / 255): in every epoch for training, once for the held-out splits."""
    grey = mnist(folder)
    generator = torch.Generator().manual_seed(BINARISATION_SEED)
    return Dataset(
        name="mnist/dynamic",
        space=Space.binary(grey.space.shape),
        train=Split(grey.train.x, grey.train.y, transform=binarise),
        validation=Split(binarise(grey.validation.x, generator), grey.validation.y),
        test=Split(binarise(grey.test.x, generator), grey.test.y),
        split=f"{grey.split}; held-out images binarised once, seed {BINARISATION_SEED}, validation first",
        **labelled(DIGITS),
    )


def binarise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A draw from Bernoulli(x / 255), uint8."""
    return (torch.rand(x.shape, generator=generator) * 255 < x).to(torch.uint8)


def stacked_mnist(folder: Path) -> Dataset:
    """Stacked MNIST, three independent digits as the channels of an image; see `dgm.data.stacked.stacked`."""
    return stacked(mnist(folder), "stacked_mnist", channels=3)


def binarized_mnist(folder: Path) -> Dataset:
    """Larochelle & Murray's static binarisation (2011): 50,000 / 10,000 / 10,000, no labels."""
    train, validation, test = (
        read_amat(folder / f"binarized_mnist_{part}.amat") for part in ("train", "valid", "test")
    )
    return Dataset(
        name="binarized_mnist",
        space=Space.binary((1, 28, 28)),
        train=Split(train),
        validation=Split(validation),
        test=Split(test),
        split="as published by Larochelle & Murray 2011",
    )


def cifar10(folder: Path, *, palette: int | None = None) -> Dataset:
    """CIFAR-10's binary batches, the fifth for validation; with a ``palette`` each pixel is a token."""
    batches = folder / "cifar-10-batches-bin"
    parts = [read_cifar(batches / f"data_batch_{k}.bin") for k in range(1, 6)]
    x, y = (torch.cat(columns) for columns in zip(*parts[:4], strict=True))
    dataset = Dataset(
        name="cifar10",
        space=Space.levels((3, 32, 32), 256),
        train=Split(x, y),
        validation=Split(*parts[4]),
        test=Split(*read_cifar(batches / "test_batch.bin")),
        split="as published; the fifth training batch is the validation split",
        **labelled(THINGS),
    )
    return dataset if palette is None else clustered(dataset, palette)


def read_idx(path: Path) -> Tensor:
    """An idx.gz file of unsigned bytes: two zeros, the type 8, the number of sizes, the sizes, the values."""
    try:
        with gzip.open(path) as file:
            head = file.read(4)
            rank = head[3] if head[:3] == b"\0\0\x08" and len(head) == 4 else 0
            sizes = tuple(int.from_bytes(file.read(4), "big") for _ in range(rank))
            refuse_a_bomb(path, math.prod(sizes), "remove it, and it is downloaded again")
            values = numpy.frombuffer(file.read(math.prod(sizes) + 1), numpy.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} is not a gzip file: {error}", "remove it, and it is downloaded again") from error
    if rank == 0 or len(values) != math.prod(sizes):
        raise BadInput(f"{path} is not an idx file of bytes", "remove it, and it is downloaded again")
    return torch.from_numpy(values.reshape(sizes).copy())


def read_amat(path: Path) -> Tensor:
    """Rows of 784 zeros and ones, a space after each but the last; uint8 (N, 1, 28, 28)."""
    content = numpy.frombuffer(path.read_bytes(), numpy.uint8)
    if len(content) == 0 or len(content) % 1568 or (content[::2] >> 1 != ord("0") >> 1).any():
        raise BadInput(f"{path} does not hold rows of 784 zeros and ones", "remove it, and it is downloaded again")
    return torch.from_numpy(content[::2].reshape(-1, 1, 28, 28) - ord("0"))


def read_cifar(path: Path) -> tuple[Tensor, Tensor]:
    """Rows of a label and 3,072 bytes, red before green before blue."""
    content = numpy.frombuffer(path.read_bytes(), numpy.uint8)
    if len(content) == 0 or len(content) % 3073:
        raise BadInput(f"{path} does not hold rows of 3,073 bytes", "remove it, and it is downloaded again")
    rows = content.reshape(-1, 3073)
    return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(numpy.int64))
