"""Symptoms of a training that goes wrong, measured at intervals, and the conditions of a warning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dgm.data import Dataset
from dgm.modes import evaluating
from dgm.protocols import Diagnosed, Model, Samplable, Symptom, has
from dgm.sampling import sample
from dgm.training.ema import EMA
from dgm.training.players import Player
from dgm.training.random_state import preserved_random_states

START = 0.2  # of the training: until then a generator may be nearly constant, as it is at first
WAIT = 0.1  # of the training: a symptom that lasts so long after the start is an alarm
ROUNDING = 1e-9  # of the difference of two shares
PARTS = 40  # measurements in a training
SAMPLES = 1000  # of which the modes are counted
MISSED = 0.5  # share of the modes


class Diagnosis:
    """The symptoms that the model states, the norms of the players' gradients and, where they are known, the modes
    that the samples cover.

    Args:
        sharded: Whether the weights are sharded: then nothing is measured, since only the loss gathers them.
    """

    def __init__(self, model: Model, whole: Model, dataset: Dataset, ema: EMA, *, sharded: bool = False) -> None:
        self.model, self.whole, self.ema, self.modes = model, whole, ema, dataset.modes
        self.asks = has(model, Diagnosed) and not sharded
        self.counts = self.asks and self.modes is not None and has(whole, Samplable)
        self.since: dict[str, float] = {}  # the progress at which each symptom that now lasts was first seen

    def measure(
        self, progress: float, x: Tensor, y: Tensor | None, players: Mapping[str, Player]
    ) -> tuple[dict[str, float], str]:
        """The values by name, and the sentence of an alarm, if any, of a model that ``asks``; nothing is changed."""
        with preserved_random_states(), torch.no_grad(), evaluating(self.whole):
            symptoms = dict(self.model.diagnose(x, y)) | self.of_samples()
        values = {name: symptom.value for name, symptom in symptoms.items()}
        values |= {f"gradient norm of {name}": player.gradient_norm() for name, player in players.items()}
        return values, " ".join(self.alarms(progress, symptoms))

    def due(self, before: float, progress: float) -> bool:
        """Whether to measure after a step in which the progress went from ``before`` to ``progress``."""
        return self.asks and int(before * PARTS) < int(progress * PARTS)

    def of_samples(self) -> dict[str, Symptom]:
        if self.modes is None or not self.counts:
            return {}
        with self.ema.applied():
            x = sample(self.whole, SAMPLES, seed=0)
        found, count = self.modes.describe(x.to("cpu"))["found"], self.modes.count
        covered = f"samples cover {found} of {count} modes"
        remedy = "train longer, or a GAN with --model.objective relativistic --model.r1 1 --model.r2 1"
        return {
            "modes covered": Symptom(found),
            "share of modes missed": Symptom(1 - found / count, MISSED, f"{covered}: {remedy}"),
        }

    def alarms(self, progress: float, symptoms: Mapping[str, Symptom]) -> Iterator[str]:
        """Of each symptom once, when it has lasted for `WAIT` of the training after its `START`."""
        for name, symptom in symptoms.items():
            if symptom.value <= symptom.limit or progress < START:
                self.since.pop(name, None)
            elif progress - self.since.setdefault(name, progress) > WAIT - ROUNDING:
                self.since[name] = math.inf
                yield f"alarm: {symptom.warning}"

    def state(self) -> dict[str, float | None]:
        """``since``, for a checkpoint; None of a symptom whose alarm was given."""
        return {name: since if math.isfinite(since) else None for name, since in self.since.items()}

    def restore(self, state: Mapping[str, float | None]) -> None:
        self.since = {name: math.inf if since is None else since for name, since in state.items()}
