"""The binary density sets that Lowd & Davis (2010) and Van Haaren & Davis (2012) collected."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput
from dgm.space import Space


def load(folder: Path, name: str) -> Dataset:
    """Loads one set from its three .data files of rows of zeros and ones, with the published splits."""
    train, validation, test = (Split(read(folder / f"{name}.{part}.data")) for part in ("train", "valid", "test"))
    space = Space.binary((train.x.shape[1],))
    return Dataset(name=name, space=space, train=train, validation=validation, test=test, split="as published")


def read(path: Path) -> Tensor:
    """The rows of a .data file, uint8 (N, D)."""
    lines = path.read_bytes().split()
    widths = {len(line) for line in lines}
    content = numpy.frombuffer(b"".join(lines), numpy.uint8)
    if len(widths) != 1:
        raise BadInput(f"{path} does not hold rows of one length", "remove it, and it is downloaded again")
    rows = content.reshape(len(lines), -1)[:, ::2] - ord("0")
    if rows.max() > 1:
        raise BadInput(f"{path} holds more than zeros and ones", "remove it, and it is downloaded again")
    return torch.from_numpy(rows.copy())
