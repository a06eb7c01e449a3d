"""The states of all random generators that a model may use, in this process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor


def random_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of torch's generators as tensors, and of NumPy's and Python's as plain values."""
    tensors = {"torch": torch.get_rng_state()}
    tensors |= (
        {f"cuda{k}": state for k, state in enumerate(torch.cuda.get_rng_state_all())}
        if torch.cuda.is_available()
        else {}
    )
    name, keys, *rest = numpy.random.get_state()
    tensors["numpy"] = torch.from_numpy(numpy.asarray(keys).astype(numpy.int64))
    version, numbers, gauss = random.getstate()
    return tensors, {"numpy": [str(name), *rest], "python": [version, list(numbers), gauss]}


def restore_random_states(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["torch"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{k}" in tensors:  # training may resume on a machine with more devices
            torch.cuda.set_rng_state(tensors[f"cuda{k}"], k)
    name, *rest = values["numpy"]
    numpy.random.set_state((name, tensors["numpy"].numpy().astype(numpy.uint32), *rest))
    version, numbers, gauss = values["python"]
    random.setstate((version, tuple(numbers), gauss))


@contextmanager
def preserved_random_states() -> Iterator[None]:
    """A context after which the random states are restored."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(*states)
