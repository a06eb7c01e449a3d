"""The exponential moving average (EMA) of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from dgm.protocols import Model


class EMA:
    r"""theta' ← d theta' + (1 - d) theta with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps reduces the weight of the initial parameters, also in short runs.

    Args:
        model: The model whose parameters are averaged; buffers and parameters without a gradient are not averaged.
        decay: The largest d; 0 disables the average.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        # a parameter with two names is listed under both names, as in a state_dict
        named = model.named_parameters(remove_duplicate=False) if decay else ()
        self.live = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.shadow = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.live:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.shadow.values()), list(self.live.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        weights = {name: parameter.detach().clone() for name, parameter in self.live.items()}
        self.put(self.shadow)
        try:
            yield
        finally:
            self.put(weights)

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self.live.items():
            parameter.copy_(weights[name])

    @torch.no_grad()
    def restore(self, shadow: Mapping[str, Tensor]) -> None:
        for name, tensor in self.shadow.items():
            tensor.copy_(shadow.get(name, tensor))  # an older checkpoint has no average of a newer dgm's weight
