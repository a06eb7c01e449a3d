"""One training loop for all models: with one loss, as a game of several players, or by passes over the data."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import registry, torchrun
from dgm.data import SETS, Dataset
from dgm.distributions.cells import fit_cells
from dgm.errors import Diverged, Interrupted
from dgm.inputs import model_given, place
from dgm.memory import keep_freed
from dgm.models.two_stage import TwoStage
from dgm.networks.conditions import fit_marginals
from dgm.protocols import DataDependent, Fittable, Model, Regularised, Stateful, condition_of, has, loss_unit
from dgm.seeds import mix
from dgm.training import checkpoint
from dgm.training.arguments import check, of_examples, settings_of_run
from dgm.training.batches import Batches
from dgm.training.codes import coded
from dgm.training.devices import (
    broadcast,
    fabric_for,
    gathered,
    is_first_process,
    summed,
)
from dgm.training.diagnosis import Diagnosis
from dgm.training.ema import EMA
from dgm.training.guard import Guard
from dgm.training.metrics import Metrics
from dgm.training.noise import DrawnTogether
from dgm.training.players import Player, factor, refuse_too_large
from dgm.training.precision import PlayerLosses, autocast, choose, loss_of, module_of
from dgm.training.saving import ROLLBACK, Saving
from dgm.training.settings import Settings, settings_for
from dgm.training.sharding import average, averaged_statistics, local
from dgm.training.step import Losses, Step
from dgm.training.validation import Validation

SLOWER, SMALLER = 0.1, "with a tenth of the"  # the learning rate after a rollback
MARKS = 10  # states in a training that it may be rolled back to
EXPLAINED = 3  # losses before the one that is not finite, in an error
REMEDY = "train again with a lower --lr or with --clip 1"
LOGGED = 200  # lines of metrics.jsonl in a training, besides the lines of validations


def fit(
    model: Model, dataset: Dataset | Any, *, out: str | Path | None = None, resume: bool = False, **chosen: Any
) -> Iterator[Step]:
    """Trains ``model`` and yields each step. No file is written before the first step is requested.

    Args:
        model: Trained in place; at the end it has the selected weights.
        dataset: The model is trained on the training split, and the weights are selected on the validation split. Or x
            alone, an array or a tensor in the model's own space, or a torch DataLoader of batches of x, or of x and y,
            which is read once into memory: then all of it is the training split, and there is no validation.
        out: The run directory to write, which must not exist; None to write no files.
        resume: Whether to resume from the newest good checkpoint in ``out``; on the CPU the result has the same bits.
        chosen: Settings by name. They override the settings of the resumed run, or else the defaults of the model.

    Raises:
        BadInput: If a setting is out of range, the data has another space, or ``out`` exists or cannot be written.
        Interrupted: If SIGINT, SIGTERM or SIGHUP stops the training, after the training is saved.
        TrainingStopped: If another process trains in ``out``.
        Diverged: If a loss or a weight is not finite; with ``out``, if it is so again after a rollback to the last good
            state with a tenth of the learning rate.

    Example:
        >>> import dgm
        >>> digits = dgm.data.load("digits")
        >>> model = dgm.create("vae", digits.space)
        >>> [step.step for step in dgm.fit(model, digits, steps=3, batch=32)]
        [1, 2, 3]
    """
    model_given(model)
    dataset = dataset if isinstance(dataset, Dataset) else of_examples(model, dataset)
    out = None if out is None else place("out", out)
    settings = settings_for(model, chosen, settings_of_run(out, model, dataset) if resume else None)
    check(model, dataset, settings)
    if condition_of(model) is not None:
        fit_marginals(model, dataset.train.y)
        model.names = dataset.names
    if model.space.kind == "record":
        fit_cells(model, dataset.train.x)
    return Training(model, dataset, settings, out).run(resume)


class Training:
    """The state of one training: its steps, its checkpoints and its end."""

    def __init__(self, model: Model, dataset: Dataset, settings: Settings, out: Path | None) -> None:
        self.whole, self.dataset, self.settings, self.out = model, dataset, settings, out
        self.model = model.on_codes() if isinstance(model, TwoStage) else model  # the trained part
        self.description = registry.describe(model)  # before sharding, which changes the class
        self.players: dict[str, Player] = {}
        # checked once, since isinstance of a Protocol is slow for a Module
        self.by_passes, self.is_stateful = has(self.model, Fittable), has(self.model, Stateful)
        self.step = 0
        self.seconds = 0.0
        self.note = ""  # the note of the next step
        self.slower = 1.0  # the factor of all learning rates, below 1 after a rollback
        self.recent: dict[str, dict[int, float]] = {}  # the last losses of each player, by step
        self.saving: Saving | None = None

    # -- steps

    def run(self, resume: bool) -> Iterator[Step]:
        keep_freed()
        self.fabric = fabric_for(self.settings)
        # before the launch, so that no other process waits for a process that cannot write and ends here
        with Guard(self.out, fresh=not resume, writes=is_first_process()) as guard:
            try:
                self.fabric.launch()
                torchrun.disconnect_at_exit()
                if self.out is not None:
                    self.saving = Saving(self, self.out)
                    if resume:
                        self.saving.restore_weights()
                self.prepare()
                if self.saving is not None:
                    self.saving.begin(resume)
                self.started = time.monotonic() - self.seconds
                yield from self.all_steps(guard)
                self.finish()
            except Exception:
                if self.saving is None or not self.saving.step:  # there is no checkpoint of a trained step
                    guard.withdraw()
                raise
            self.fabric.barrier()  # the first process writes, and the others may read its files

    def prepare(self) -> None:
        settings, fabric, model = self.settings, self.fabric, self.model
        # a compiled loss draws from streams of its own; all else is equal in every process
        torch.manual_seed(mix(settings.seed, fabric.global_rank if settings.compile else 0) >> 1)
        self.whole.to(fabric.device)
        model.train()
        self.share_weights()
        sharded = settings.strategy == "fsdp" and fabric.world_size > 1
        if fabric.device.type == "cpu" and not self.by_passes:
            refuse_too_large(model, averaged=settings.ema > 0, shards=fabric.world_size if sharded else 1)
        rank, world = fabric.global_rank, fabric.world_size
        data = self.dataset
        if isinstance(self.whole, TwoStage):
            with fabric.rank_zero_first():  # the others read the files that it stores
                data = coded(self.whole, data)
        self.batches = Batches(data.train, settings.batch, settings.seed, rank=rank, world=world, device=fabric.device)
        self.conditional = condition_of(model) is not None
        if self.step == 0 and has(model, DataDependent):
            x, y = self.batches.at(0)
            given = gathered(fabric, y) if self.conditional and y is not None else None
            model.initialise(gathered(fabric, x), given)
            self.share_weights()
        if settings.precision == "auto":
            began = time.monotonic()
            x, y = self.batches.at(0)
            precision, self.note = choose(model, x, y if self.conditional else None, settings, fabric)
            self.settings = settings = replace(settings, precision=precision)
            self.seconds = time.monotonic() - began  # a budget includes it
        if sharded:
            fabric.strategy.setup_module(model)
        self.statistics = averaged_statistics(model) if fabric.world_size > 1 else []
        self.ema = EMA(model, 0 if self.by_passes else settings.ema)
        self.diagnosis = Diagnosis(model, self.whole, data, self.ema, sharded=sharded)
        self.validation = Validation(model, self.ema, data, settings, fabric, self.batches.in_epoch)
        if not self.by_passes:
            self.loss = torch.compile(loss_of(model)) if settings.compile else loss_of(model)
            self.regularisers = list(model.regularisers()) if has(model, Regularised) else []

    def share_weights(self) -> None:
        """Copies the weights and buffers of the first process to all others."""
        if self.fabric.world_size > 1:
            for tensor in self.whole.state_dict().values():
                broadcast(tensor, self.fabric)

    @property
    def progress(self) -> float:
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.seconds / (self.settings.budget or math.inf))

    def all_steps(self, guard: Guard) -> Iterator[Step]:
        """The steps to the end, with one rollback if the training diverges."""
        out = self.out if self.fabric.is_global_zero else None
        while True:
            try:
                logged = self.step - bool(self.validation.owed)
                with Metrics(out, logged, self.settings.tensorboard, loss_unit(self.model)) as metrics:
                    yield from self.steps(metrics, guard)
                self.finite_weights()
                return
            except Diverged as diverged:
                self.roll_back(diverged)

    def roll_back(self, diverged: Diverged) -> None:
        """Restores the last good state and makes the steps smaller; the second time, or without such a state, ends."""
        if self.saving is None or self.slower != 1 or not checkpoint.all_of(self.saving.out / ROLLBACK):
            raise self.stopped(diverged)
        self.saving.roll_back(SLOWER, f"{diverged.wrong}: rolled back to step {{step}}, {SMALLER} learning rate")
        self.recent.clear()

    def steps(self, metrics: Metrics, guard: Guard) -> Iterator[Step]:
        moves = self.passes() if self.by_passes else self.descents()
        if owed := self.validation.owed:
            step = self.described(owed["losses"], owed["lr"], self.validated(guard))
            metrics.write(step)
            yield step
            self.pause(guard)
        while self.progress < 1 and not self.validation.exhausted(self.step, self.progress):
            before = self.progress
            self.factor = self.slower * factor(self.step, before, self.settings)
            losses = next(moves, None)
            if losses is None:  # a model fitted by passes has converged
                return
            step = self.moved(losses, before, guard)
            if step.validation is not None or step.note or int(before * LOGGED) < int(step.progress * LOGGED):
                self.finite(step.step, losses)
                step = self.diagnosed(step) if self.diagnosis.due(before, step.progress) else step
                metrics.write(step)
            yield step
            if self.saving is not None and int(before * MARKS) < int(step.progress * MARKS) < MARKS:
                self.saving.mark()
            self.pause(guard)

    def moved(self, losses: Losses, before: float, guard: Guard) -> Step:
        self.step += 1
        self.seconds = time.monotonic() - self.started
        if self.settings.budget is not None:  # all processes must end at the same step
            self.seconds = summed(self.fabric, self.seconds)[0] / self.fabric.world_size
        lr = self.settings.lr * self.factor
        validation = None
        if self.validation.due(self.step, before, self.progress):
            self.validation.owed = {"losses": dict(losses), "lr": lr}
            validation = self.validated(guard)
        return self.described(losses, lr, validation)

    def validated(self, guard: Guard) -> float | None:
        """The validation loss of this step; None if a signal interrupts it, and the resumed training owes it."""
        validation = self.validation.measure(self.step, lambda: guard.stopped)
        if validation is not None:
            self.validation.owed = {}
        return validation

    def described(self, losses: Mapping[str, float], lr: float, validation: float | None) -> Step:
        examples = self.step * (len(self.batches.split) if self.by_passes else self.batches.size)
        note, self.note = self.note, ""
        if validation is not None:
            note = self.validation.exhausted(self.step, self.progress) or note
        return Step(self.step, self.progress, losses, lr, self.seconds, examples, validation, note)

    def diagnosed(self, step: Step) -> Step:
        """The step with the symptoms of the training, and with an alarm where one is due."""
        x, y = self.batches.at(self.step)
        symptoms, alarm = self.diagnosis.measure(step.progress, x, y if self.conditional else None, self.players)
        return replace(step, symptoms=symptoms, note="; ".join(filter(None, (step.note, alarm))))

    def descents(self) -> Iterator[Losses]:
        on_cpu = self.fabric.device.type == "cpu"  # on a GPU, a check of the loss blocks the step
        while True:
            with self.noise():
                x, y = self.batches.at(self.step)
            y = y if self.conditional else None
            losses = {}
            player_losses = PlayerLosses(self.loss, x, y, self.computing)
            for name, loss in player_losses:
                player = self.player(name)
                losses[name] = player.gradient(loss.mean(), self.penalty(name, x, y))
                if on_cpu:
                    self.finite(self.step + 1, losses)
                player.step(self.factor)
            if self.is_stateful:
                self.model.after_step(*(gathered(self.fabric, output) for output in player_losses.outputs))
            average(self.statistics, self.fabric)
            self.ema.update(self.step)
            yield Losses(losses)

    def penalty(self, player: str, x: Tensor, y: Tensor | None) -> Tensor | None:
        """The sum of a player's penalties that are due at this step, each multiplied by its interval."""
        due = [r for r in self.regularisers if r.player == player and self.step % r.interval == 0]
        if not due:
            return None
        with self.computing():
            return torch.stack([r.interval * r.penalty(x, y).mean() for r in due]).sum()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The context of a loss: its precision, and the random numbers of its rows."""
        with autocast(self.fabric.device, self.settings.precision), self.noise():
            yield

    def noise(self) -> AbstractContextManager[Any]:
        rank, world = self.batches.rank, self.batches.world
        if world == 1 or self.settings.compile:
            return nullcontext()
        return DrawnTogether(rank, world, self.batches.size // world)

    def passes(self) -> Iterator[Losses]:
        for loss in self.model.fit(self.batches):
            losses = Losses({"model": torch.as_tensor(loss, dtype=torch.float64)})
            self.finite(self.step + 1, losses)
            yield losses

    def player(self, name: str) -> Player:
        if name not in self.players:
            self.players[name] = Player(module_of(self.model, name), self.settings.of_player(name), self.fabric)
        return self.players[name]

    # -- failures

    def finite(self, step: int, losses: Mapping[str, Any]) -> None:
        for player, loss in losses.items():
            before = self.recent.setdefault(player, {})
            if not math.isfinite(value := float(loss)):
                past = ", ".join(f"{of_step:.3g}" for of_step in list(before.values())[-EXPLAINED:])
                after = f", after {past} at the steps before" if past else ""
                raise self.diverged(f"the loss of '{player}' is {value} at step {step}{after}")
            before[step] = value
            if len(before) > EXPLAINED:
                del before[next(iter(before))]

    def finite_weights(self) -> None:
        """Checks the parameters. Buffers are not checked, since a mask may have an infinity."""
        named = ((name, local(parameter)) for name, parameter in self.model.named_parameters())
        wrong = next((name for name, parameter in named if not parameter.isfinite().all()), None)
        if summed(self.fabric, wrong is not None)[0]:  # all processes end at this step
            which = f"'{wrong}'" if wrong else "of another process"
            raise self.diverged(f"the weights {which} are not finite after step {self.step}")

    def diverged(self, wrong: str) -> Diverged:
        return Diverged(wrong, getattr(self.model, "remedy", REMEDY))

    def stopped(self, diverged: Diverged) -> Diverged:
        """The error that ends the training, with the remedy that was tried and the place of the last good state."""
        wrong = diverged.wrong + (f", {SMALLER} learning rate too" if self.slower != 1 else "")
        saved = self.saving is not None and self.saving.step
        last = checkpoint.newest(self.out / "checkpoints") if self.out is not None and saved else None
        return Diverged(wrong if last is None else f"{wrong}; the last good checkpoint is {last}", diverged.remedy)

    # -- end

    def pause(self, guard: Guard) -> None:
        """Called between two steps: saves a checkpoint if one is due, and stops after a signal."""
        if self.saving is None:
            return
        late = time.monotonic() - self.saving.at >= self.settings.checkpoint_every
        stopped, late_somewhere = summed(self.fabric, guard.stopped, late)
        if stopped or late_somewhere:
            self.saving.save()
        if stopped:
            saved = f"stopped at step {self.step}, which is saved"
            own = "" if self.dataset.name in SETS else f" --data {shlex.quote(self.dataset.name)}"
            raise Interrupted(saved, f"go on with: dgm train --resume {self.out}{own}", guard.number)

    def finish(self) -> None:
        """Puts the selected weights into the model and into the run directory."""
        self.finite_weights()
        if self.saving is not None:
            self.saving.save()
        weights = self.validation.best or {name: tensor.detach().clone() for name, tensor in self.weights().items()}
        self.model.load_state_dict(self.model.state_dict() | weights)
        self.whole.eval()
        if self.saving is not None:
            self.saving.finish()

    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict() | self.ema.shadow
