"""The loss on the validation split, and the weights that had the least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.likelihood import at_once
from dgm.protocols import Fittable, Model, MultiPlayer, Trainable
from dgm.training.average import Average
from dgm.training.settings import Settings

PARTS = 20  # validations a training, unless validate_every says otherwise
SEED = 0
COST = 1 / 3  # of a forward pass, in steps of training: a step goes forward once and backward for twice as long
SHARE = 0.1  # of the training's time, at most, goes to validations that nobody asked for


class Validation:
    """Validates the averaged weights now and then.

    Only a model that descends one loss is: a game's losses say nothing of its progress, and a fit has no steps.
    """

    def __init__(self, model: Model, average: Average, dataset: Dataset, settings: Settings, fabric: Any) -> None:
        self.model, self.average, self.fabric, self.split = model, average, fabric, dataset.validation
        one_loss = isinstance(model, Trainable) and not isinstance(model, (MultiPlayer, Fittable))
        self.selects = settings.select == "best" and one_loss and len(self.split) > 0
        self.measures = self.selects or (settings.validate_every > 0 and one_loss and len(self.split) > 0)
        self.conditional = getattr(model.config, "classes", 0) > 0
        self.every = settings.validate_every
        self.apart = COST * len(self.split) / settings.batch / SHARE
        self.last = 0
        self.best_loss = math.inf
        self.best: dict[str, Tensor] = {}

    def due(self, step: int, before: float, progress: float) -> bool:
        """Whether to validate after this step, which took the training from ``before`` to ``progress``."""
        if not self.measures:
            return False
        if self.every:
            return step % self.every == 0 or progress >= 1
        return progress >= 1 or (int(before * PARTS) < int(progress * PARTS) and step - self.last >= self.apart)

    @torch.no_grad()
    def measure(self, step: int) -> float:
        """The mean loss, under noise that is the same each time."""
        self.last = step
        with torch.random.fork_rng(), self.average.applied(), self.fabric.autocast():
            torch.manual_seed(SEED)
            self.model.eval()
            rows = torch.arange(len(self.split)).split(at_once(self.model))
            loss = sum(self.total(part) for part in rows) / len(self.split)
            self.model.train()
        if self.selects and loss < self.best_loss:
            self.best_loss = loss
            weights = self.model.state_dict() | self.average.shadow
            self.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return loss

    def total(self, rows: Tensor) -> float:
        x, y = self.split.batch(rows)
        y = y.to(self.fabric.device) if y is not None and self.conditional else None
        return self.model.loss(x.to(self.fabric.device), y).double().sum().item()

    def state(self) -> dict[str, Any]:
        return {"validated": self.last, "best_loss": self.best_loss if self.best else None}

    def restore(self, best: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.best = dict(best)
        self.last = values["validated"]
        self.best_loss = math.inf if values["best_loss"] is None else values["best_loss"]
