"""The result of one step of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor


class Losses(Mapping[str, float]):
    """The losses by player. They stay on the device until they are read, so that a step does not block."""

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
    """The result of a step of training.

    Attributes:
        step: The number of completed steps.
        progress: The completed share of the training, in [0, 1].
        losses: The loss of each player, or of ``"model"`` alone, in the model's own unit (`dgm.protocols`).
        lr: The learning rate of the step.
        seconds: The time trained so far, over all resumptions.
        examples: The number of examples processed so far, over all devices.
        validation: The mean loss on the validation split, if it was measured at this step.
        note: A decision of the training at this step in a sentence, such as the reason to stop; mostly empty.
        symptoms: Numbers by name that say how well the training goes, at the steps that are logged; see
            `dgm.training.diagnosis`.
    """

    step: int
    progress: float
    losses: Mapping[str, float]
    lr: float
    seconds: float
    examples: int
    validation: float | None = None
    note: str = ""
    symptoms: Mapping[str, float] = field(default_factory=dict)
