"""A module that counts its training steps where reading the count does not wait for a GPU."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

import torch
from torch import nn


class CountsSteps(nn.Module, ABC):
    """Its step counter stays on the CPU when the module moves, and is saved with the weights.

    Attributes:
        counter: The name of the counter, a buffer.
    """

    counter: ClassVar[str] = "step"

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        step = getattr(self, self.counter)
        super()._apply(*arguments, **options)
        setattr(self, self.counter, step)
        return self

    def register_counter(self) -> None:
        self.register_buffer(self.counter, torch.tensor(0))
