"""The base class of composites that train one of their parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from dgm.modes import device_of
from dgm.protocols import Batch, Conditions, Model, PerExample, Regulariser, State, Symptom
from dgm.seeds import Seed, Streams, streams
from dgm.space import Space

# of the conditions, in the form of the part, and of noise
StatesOfPart: TypeAlias = Callable[[Conditions | None, Streams], Iterator[State]]


class TrainsPart(nn.Module, ABC):
    """An abstract composite whose training is that of one of its parts, on a transformed x."""

    space: Space
    condition: Space | None
    config: Any

    @property
    @abstractmethod
    def trained_part(self) -> tuple[str, Model]:
        """The name of the submodule that is trained, and the submodule."""

    @abstractmethod
    def for_part(self, x: Batch, y: Conditions | None) -> tuple[Tensor, Conditions | None]:
        """The batch transformed for the trained part."""

    @abstractmethod
    def through_part(
        self, states: StatesOfPart, y: Conditions | None, noise: Streams, *, mean: bool = False
    ) -> Iterator[State]:
        """The states of the composite's sampler, computed from the states of the part's sampler.

        Args:
            mean: Whether the noise in the last step of the composite, if it has any, is left out as in ``sample_mean``.
        """

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        part = self.trained_part[1]
        noise = streams(n, seed, device_of(self))
        return self.through_part(lambda y, noise: part.trajectory(n, y, seed=noise), y, noise)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.trained_part[1].loss(*self.for_part(x, y))

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        _, part = self.trained_part
        if not hasattr(part, "loss_and_outputs"):
            return self.loss(x, y), ()
        return part.loss_and_outputs(*self.for_part(x, y))

    def losses(self, x: Batch, y: Conditions | None = None) -> Generator[tuple[str, PerExample], None, Any]:
        name, part = self.trained_part
        losses = part.losses(*self.for_part(x, y))
        while True:
            try:
                player, loss = next(losses)
            except StopIteration as end:
                return end.value
            yield f"{name}.{player}", loss

    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        self.trained_part[1].initialise(*self.for_part(x, y))

    def after_step(self, *outputs: Tensor) -> None:
        self.trained_part[1].after_step(*outputs)

    def regularisers(self) -> Sequence[Regulariser]:
        return [self.of_part(regulariser) for regulariser in self.trained_part[1].regularisers()]

    def of_part(self, regulariser: Regulariser) -> Regulariser:
        player = "model" if regulariser.player == "model" else f"{self.trained_part[0]}.{regulariser.player}"
        penalty = regulariser.penalty
        return Regulariser(player, regulariser.interval, lambda x, y: penalty(*self.for_part(x, y)))

    def diagnose(self, x: Batch, y: Conditions | None = None) -> Mapping[str, Symptom]:
        return self.trained_part[1].diagnose(*self.for_part(x, y))

    def fit(self, batches: Iterable[tuple[Tensor, Conditions | None]]) -> Iterator[float]:
        return self.trained_part[1].fit(BatchesForPart(self, batches))


class BatchesForPart:
    """The transformed batches of each pass, with new random draws."""

    def __init__(self, model: TrainsPart, batches: Iterable[tuple[Tensor, Conditions | None]]) -> None:
        self.model, self.batches = model, batches

    def __iter__(self) -> Iterator[tuple[Tensor, Conditions | None]]:
        return (self.model.for_part(x, y) for x, y in self.batches)
