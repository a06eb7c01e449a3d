"""A model's mode: in training it has dropout and the batch's own statistics, in evaluation neither.

A likelihood or a sample is of the model as it is evaluated, whatever mode the model is in when it is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import nn

T = TypeVar("T", bound=Callable[..., Any])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode inside; afterwards each of its modules is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def evaluated(method: T) -> T:
    """A function of a model, or a method of one, that runs in evaluation mode. It must not be a generator."""

    @functools.wraps(method)
    def in_evaluation(model: nn.Module, *args: Any, **options: Any) -> Any:
        with evaluating(model):
            return method(model, *args, **options)

    return cast(T, in_evaluation)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are, or its buffers where it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
