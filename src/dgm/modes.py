"""Training and evaluation mode: dropout and batch statistics are active in training mode only.

Likelihoods and samples are computed in evaluation mode, whatever the mode of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import nn

from dgm.protocols import Module

S = TypeVar("S")
T = TypeVar("T", bound=Callable[..., Any])


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """A context with ``model`` in evaluation mode; afterwards the mode of each module is restored."""
    with all_evaluating([*model.modules()]):
        yield


@contextmanager
def all_evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def evaluated(method: T) -> T:
    """Decorates a function or method of a model, which then runs in evaluation mode; so does each step of an iterator.

    Between two steps the mode of the model is restored, since the caller may train it there.
    """

    @functools.wraps(method)
    def in_evaluation(model: Module, *args: Any, **options: Any) -> Any:
        with evaluating(model):
            found = method(model, *args, **options)
        return each_evaluated(model, found) if isinstance(found, Iterator) else found

    return cast(T, in_evaluation)


def each_evaluated(model: Module, steps: Iterator[S]) -> Iterator[S]:
    end, modules = object(), [*model.modules()]
    while True:
        with all_evaluating(modules):
            step = next(steps, end)
        if step is end:
            return
        yield cast(S, step)


def device_of(model: Module) -> torch.device:
    """The device of the parameters, or of the buffers if there are no parameters."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
