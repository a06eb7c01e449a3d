"""The loss on the validation split, the weights with the lowest loss, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.likelihood import evaluation_batch
from dgm.protocols import Fittable, Model, MultiPlayer, Trainable, condition_of, has
from dgm.training.devices import summed
from dgm.training.ema import EMA
from dgm.training.frozen import frozen_names
from dgm.training.precision import autocast
from dgm.training.settings import Settings

PARTS = 20  # validations in a training, unless validate_every is set
GROWTH, FINE_GROWTH = 1 / 4, 1 / 16  # the largest interval to the next validation, as a share of the completed steps
SEED = 0
COST = 1 / 3  # of a forward pass, in training steps: the backward pass takes about twice as long as the forward pass
SHARE = 0.1  # the largest share of the training's time for validations if validate_every is not set
SMALL = 10_000  # up to this number of training examples, early stopping is the default
EPOCHS, WAIT = 30, 0.2  # epochs, and the share of the completed training, without a better validation before it stops


class Validation:
    """Validates the averaged weights at intervals.

    The first validation is at the end of the first epoch. Each next one follows after a quarter more steps, or after a
    sixteenth if the loss is near its minimum, and there are at least `PARTS` in all. Validations that would take more
    than `SHARE` of the time are left out.

    Only a model with one loss is validated: the losses of a game do not measure its progress, and a fit by passes has
    no steps.

    Args:
        in_epoch: The number of steps in an epoch.

    Attributes:
        owed: The losses and the learning rate of the step whose validation was interrupted; empty if none was.
    """

    def __init__(
        self, model: Model, ema: EMA, dataset: Dataset, settings: Settings, fabric: Any, in_epoch: int
    ) -> None:
        self.model, self.ema, self.fabric, self.split = model, ema, fabric, dataset.validation
        self.in_epoch = in_epoch
        one_loss = descends_one_loss(model) and len(self.split) > 0
        self.selects = settings.select == "best" and one_loss
        self.patience = patience(settings.patience, dataset) if self.selects else (0, 0.0)
        self.measures = self.selects or (settings.validate_every > 0 and one_loss)
        self.conditional = condition_of(model) is not None
        self.every, self.precision = settings.validate_every, settings.precision
        self.apart = COST * len(self.split) / settings.batch / SHARE
        self.recent: list[tuple[int, float]] = []  # the steps and losses of the last three validations
        self.best_loss, self.best_step = math.inf, 0
        self.best: dict[str, Tensor] = {}
        self.owed: dict[str, Any] = {}
        self.frozen = frozen_names(model)

    @property
    def last(self) -> int:
        return self.recent[-1][0] if self.recent else 0

    def due(self, step: int, before: float, progress: float) -> bool:
        """Whether to validate after this step, in which the progress went from ``before`` to ``progress``."""
        if not self.measures:
            return False
        if self.every:
            return step % self.every == 0 or progress >= 1
        if not self.recent and step >= self.in_epoch:
            return True
        growth = FINE_GROWTH if turning(self.recent) else GROWTH
        late = int(before * PARTS) < int(progress * PARTS) or step >= self.last * (1 + growth)
        return progress >= 1 or (late and step - self.last >= self.apart)

    def exhausted(self, step: int, progress: float) -> str:
        """The reason to stop early after the validation of this step; empty if training should continue."""
        epochs, share = self.patience
        waited = step - self.best_step
        if not epochs or step != self.last or waited < epochs * self.in_epoch or progress * waited < share * step:
            return ""
        return (
            f"stopped: the validation loss was lowest after step {self.best_step} ({self.best_loss:.6g}) and has not "
            f"improved in the {waited / self.in_epoch:.3g} epochs since"
        )

    @torch.no_grad()
    def measure(self, step: int, stopped: Callable[[], bool]) -> float | None:
        """The mean loss on the validation split, with the same noise each time; None if it was ``stopped`` before.

        One of several processes cannot stop alone, since the others wait for it.
        """
        with torch.random.fork_rng(), self.ema.applied(), autocast(self.fabric.device, self.precision):
            torch.manual_seed(SEED)
            self.model.eval()
            loss = self.mean(stopped)
            self.model.train()
        if loss is None:
            return None
        loss = summed(self.fabric, loss)[0] / self.fabric.world_size  # all processes need the same number
        self.recent = [*self.recent[-2:], (step, loss)]
        if self.selects and loss < self.best_loss:
            self.best_loss, self.best_step = loss, step
            weights = self.model.state_dict() | self.ema.shadow
            moving = {name: tensor for name, tensor in weights.items() if name not in self.frozen}
            self.best = {name: tensor.detach().clone() for name, tensor in moving.items()}
        return loss

    def mean(self, stopped: Callable[[], bool]) -> float | None:
        total = 0.0
        for rows in torch.arange(len(self.split)).split(evaluation_batch(self.model)):
            if self.fabric.world_size == 1 and stopped():
                return None
            total += self.total(rows)
        return total / len(self.split)

    def total(self, rows: Tensor) -> float:
        x, y = self.split.batch(rows)
        y = y.to(self.fabric.device) if y is not None and self.conditional else None
        return self.model.loss(x.to(self.fabric.device), y).double().sum().item()

    def state(self) -> dict[str, Any]:
        best = {"best_loss": self.best_loss if self.best else None, "best_step": self.best_step}
        return {"validations": self.recent, **best} | ({"owed": self.owed} if self.owed else {})

    def restore(self, best: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.best = dict(best)
        self.best_loss = math.inf if values["best_loss"] is None else values["best_loss"]
        self.best_step, self.owed = values.get("best_step", 0), values.get("owed", {})
        # a checkpoint of an older dgm has only the step of the last validation
        before = [(values["validated"], self.best_loss)] if values.get("validated") else []
        self.recent = [(step, loss) for step, loss in values.get("validations", before)]


def descends_one_loss(model: Model) -> bool:
    return has(model, Trainable) and not (has(model, MultiPlayer) or has(model, Fittable))


def patience(chosen: int | str, dataset: Dataset) -> tuple[int, float]:
    """The epochs, and the share of the completed training, without a better validation before it stops; 0 for never.

    A number is a number of epochs. By default training stops early on small data sets and on tables, late enough for
    the improvement that a decreasing learning rate still brings.
    """
    if not isinstance(chosen, str):
        return chosen, 0.0
    rows = len(dataset.space.shape) <= 1 and dataset.space.kind != "tokens"
    return (EPOCHS, WAIT) if rows or len(dataset.train) <= SMALL else (0, 0.0)


def turning(recent: Sequence[tuple[int, float]]) -> bool:
    """Whether the parabola through three losses, a function of the step's logarithm, has its minimum within a share
    `GROWTH` of further steps.

    Example:
        >>> turning([(100, 9.0), (125, 8.0), (156, 7.5)]), turning([(100, 9.0), (125, 8.0), (156, 7.2)])
        (True, False)
    """
    if len(recent) < 3:
        return False
    (u, first), (v, second), (w, third) = ((math.log(step), loss) for step, loss in recent)
    before, slope = (second - first) / (v - u), (third - second) / (w - v)
    bend = 2 * (slope - before) / (w - u)
    at_the_end = slope + bend * (w - v) / 2
    return at_the_end < 0 < at_the_end + bend * math.log1p(GROWTH)
