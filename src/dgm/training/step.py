"""What one step of training did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


class Losses(Mapping[str, float]):
    """Losses by player. They stay on the device until they are looked at, so that a step waits for nobody."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, player: str) -> float:
        return self.tensors[player].item()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True)
class Step:
    """What a step of training did.

    Attributes:
        step: How many steps are done.
        progress: How much of the training is done, in [0, 1].
        losses: The loss of each player, or of ``"model"`` alone, in the model's own unit (`dgm.protocols`).
        lr: The learning rate that the step used.
        seconds: Time trained so far, over all resumptions.
        examples: Examples processed so far, over all devices.
        validation: The mean loss on the validation split, where this step measured it.
        note: What the training decided by itself at this step, in a sentence, such as why it stops; mostly empty.
    """

    step: int
    progress: float
    losses: Mapping[str, float]
    lr: float
    seconds: float
    examples: int
    validation: float | None = None
    note: str = ""
