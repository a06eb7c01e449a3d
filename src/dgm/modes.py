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

from dgm.protocols import Module

S = TypeVar("S")
T = TypeVar("T", bound=Callable[..., Any])


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """``model`` in evaluation mode inside; afterwards each of its modules is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def evaluated(method: T) -> T:
    """A function of a model, or a method of one, that runs in evaluation mode; of an iterator each step does.

    Between two steps the model is in its own mode, since the caller may train it there.
    """

    @functools.wraps(method)
    def in_evaluation(model: Module, *args: Any, **options: Any) -> Any:
        with evaluating(model):
            found = method(model, *args, **options)
        return each_evaluated(model, found) if isinstance(found, Iterator) else found

    return cast(T, in_evaluation)


def each_evaluated(model: Module, steps: Iterator[S]) -> Iterator[S]:
    end = object()
    while True:
        with evaluating(model):
            step = next(steps, end)
        if step is end:
            return
        yield cast(S, step)


def device_of(model: Module) -> torch.device:
    """Where the model's parameters are, or its buffers where it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
