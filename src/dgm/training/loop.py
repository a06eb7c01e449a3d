"""One loop for every kind of model: by gradients, as a game, or by passes over the data."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgm import __version__, registry, runs
from dgm.data import Dataset
from dgm.errors import BadInput, Interrupted, TrainingStopped, Unsupported
from dgm.protocols import Fittable, Model, MultiPlayer, Trainable
from dgm.seeds import mix
from dgm.training import checkpoint
from dgm.training.average import Average
from dgm.training.batches import Batches
from dgm.training.guard import Guard
from dgm.training.metrics import Metrics
from dgm.training.players import Player, factor
from dgm.training.settings import Settings, settings_for

LOGGED = 200  # lines of metrics.jsonl a training
VALIDATIONS = 20  # a training, unless validate_every says otherwise
VALIDATION_SEED = 0
VALIDATION_BATCH = 512


@dataclass(frozen=True)
class Step:
    """What a step of training did.

    Attributes:
        step: How many steps are done.
        progress: How much of the training is done, in [0, 1].
        losses: The loss of each player, or of ``"model"`` alone; nats where it is a likelihood.
        lr: The learning rate that the step used.
        seconds: Time trained so far, over all resumptions.
        validation: The mean loss on the validation split, where this step measured it.
    """

    step: int
    progress: float
    losses: dict[str, float]
    lr: float
    seconds: float
    validation: float | None = None


def fit(
    model: Model, dataset: Dataset, *, out: str | Path | None = None, resume: bool = False, **chosen: Any
) -> Iterator[Step]:
    """Trains ``model`` and yields each step. Nothing happens until the steps are taken.

    Args:
        model: Trained in place; it ends with the weights that were selected.
        dataset: Its training split is trained on, its validation split selects.
        out: The run directory to write; it must not exist. None writes nothing.
        resume: Go on from the newest good checkpoint in ``out``, on the CPU to the same bits.
        chosen: Settings by name, over the model's own defaults; see `Settings`.

    Raises:
        BadInput: For settings out of range, data of another space, or an ``out`` that exists.
        TrainingStopped: When interrupted, or when a loss is no longer finite; the message says how to go on.

    Example:
        >>> import dgm
        >>> digits = dgm.data.load("digits")
        >>> model = dgm.create("vae", digits.space)
        >>> [step.step for step in dgm.fit(model, digits, steps=3, batch=32)]
        [1, 2, 3]
    """
    settings = settings_for(model, chosen)
    if model.space != dataset.space:
        raise BadInput(f"the model is of {model.space}, the data of {dataset.space}", "create it with the data's space")
    if not isinstance(model, (Trainable, MultiPlayer, Fittable)):
        raise Unsupported(f"{type(model).__name__} has no loss, losses or fit", "see docs/own-model.md")
    if resume and out is not None:
        runs.Run(out)  # says so if it is none
    return Training(model, dataset, settings, None if out is None else Path(out)).run(resume)


class Training:
    """The state of one training: how it moves, how it is saved, how it goes on."""

    def __init__(self, model: Model, dataset: Dataset, settings: Settings, out: Path | None) -> None:
        from lightning_fabric import Fabric

        self.model, self.dataset, self.settings, self.out = model, dataset, settings, out
        self.fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy="ddp" if settings.devices > 1 or "TORCHELASTIC_RUN_ID" in os.environ else "auto",
            precision=settings.precision,
        )
        self.players: dict[str, Player] = {}
        self.step = 0
        self.seconds = 0.0
        self.best_loss = math.inf
        self.best: dict[str, Tensor] = {}

    # -- moving

    def run(self, resume: bool) -> Iterator[Step]:
        self.fabric.launch()
        with Guard(self.out, fresh=not resume, writes=self.fabric.is_global_zero) as guard:
            self.prepare(resume)
            out = self.out if self.fabric.is_global_zero else None
            with Metrics(out, self.step, self.settings.tensorboard) as metrics:
                yield from self.steps(metrics, guard)
            self.finish()

    def prepare(self, resume: bool) -> None:
        settings, fabric = self.settings, self.fabric
        if self.out is not None and fabric.is_global_zero:
            checkpoint.sweep(self.out)
            runs.write_json(self.document(), self.out / "config.json")
        fabric.barrier()
        torch.manual_seed(mix(settings.seed, fabric.global_rank) >> 1)
        self.model.to(fabric.device).train()
        if fabric.world_size > 1:
            self.model.load_state_dict({name: fabric.broadcast(t) for name, t in self.model.state_dict().items()})
        self.average = Average(self.model, settings.ema)
        rank, world = fabric.global_rank, fabric.world_size
        self.batches = Batches(
            self.dataset.train, settings.batch, settings.seed, rank=rank, world=world, device=fabric.device
        )
        self.selects = (
            settings.select == "best" and isinstance(self.model, Trainable) and len(self.dataset.validation) > 0
        )
        if isinstance(self.model, Trainable):
            self.loss = torch.compile(self.model.loss) if settings.compile else self.model.loss
        if resume:
            self.restore()
        self.started = time.monotonic() - self.seconds
        self.saved = time.monotonic()

    @property
    def progress(self) -> float:
        if self.settings.steps is not None:
            return self.step / self.settings.steps
        return min(1.0, self.seconds / (self.settings.budget or math.inf))

    def steps(self, metrics: Metrics, guard: Guard) -> Iterator[Step]:
        one_step = self.passes() if isinstance(self.model, Fittable) else self.gradient_steps()
        while self.progress < 1:
            before = self.progress
            self.lr = self.settings.lr * factor(self.step, before, self.settings)
            losses = next(one_step, None)
            if losses is None:  # a model that is fitted by passes has converged
                break
            self.step += 1
            self.seconds = self.elapsed()
            due = self.selects and self.crosses(before, VALIDATIONS, self.settings.validate_every)
            validation = self.validate() if due else None
            step = Step(self.step, self.progress, losses, self.lr, self.seconds, validation)
            if validation is not None or self.crosses(before, LOGGED, 0):
                metrics.write(step)
            yield step
            self.pause(guard)

    def crosses(self, before: float, parts: int, every: int) -> bool:
        """Whether this step ended one of so many equal parts of the training, or is a multiple of ``every``."""
        if every:
            return self.step % every == 0
        return int(before * parts) < int(self.progress * parts)

    def elapsed(self) -> float:
        seconds = time.monotonic() - self.started
        if self.settings.budget is not None and self.fabric.world_size > 1:  # all processes must end at one step
            seconds = float(self.fabric.broadcast(seconds))
        return seconds

    def gradient_steps(self) -> Iterator[dict[str, float]]:
        while True:
            x, y = self.batches.at(self.step)
            if not self.conditional:
                y = None
            losses = {}
            for name, loss in self.named_losses(x, y):
                mean = loss.mean()
                losses[name] = self.finite(name, mean.item())
                self.player(name).descend(mean, self.lr)
            self.average.update(self.step)
            yield losses

    def named_losses(self, x: Tensor, y: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        if isinstance(self.model, MultiPlayer):
            game = self.model.losses(x, y)
            while True:
                with self.fabric.autocast():
                    turn = next(game, None)
                if turn is None:
                    return
                yield turn
        with self.fabric.autocast():
            loss = self.loss(x, y)
        yield "model", loss

    def player(self, name: str) -> Player:
        if name not in self.players:
            module = self.model if name == "model" else self.model.get_submodule(name)
            self.players[name] = Player(module, self.settings, self.fabric)
        return self.players[name]

    def passes(self) -> Iterator[dict[str, float]]:
        for loss in self.model.fit(self.batches):
            yield {"model": self.finite("model", float(loss))}

    @property
    def conditional(self) -> bool:
        return bool(getattr(self.model.config, "classes", 0))

    def finite(self, player: str, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        wrong = f"the loss of '{player}' is {loss} at step {self.step + 1}"
        if self.out is None or not runs.Run(self.out).checkpoints():
            raise TrainingStopped(wrong, "try a lower --lr or a --clip of 1")
        last = runs.Run(self.out).checkpoints()[0]
        raise TrainingStopped(f"{wrong}; the last good checkpoint is {last}", "try a lower --lr or a --clip of 1")

    @torch.no_grad()
    def validate(self) -> float:
        """The mean validation loss of the averaged weights, under noise that is the same each time."""
        split, total = self.dataset.validation, 0.0
        with torch.random.fork_rng(), self.average.applied():
            torch.manual_seed(VALIDATION_SEED)
            self.model.eval()
            for rows in torch.arange(len(split)).split(VALIDATION_BATCH):
                x, y = split.batch(rows)
                x, y = (
                    x.to(self.fabric.device),
                    y.to(self.fabric.device) if y is not None and self.conditional else None,
                )
                total += self.model.loss(x, y).double().sum().item()
            self.model.train()
        loss = total / len(split)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
        return loss

    # -- saving and going on

    def document(self) -> dict[str, Any]:
        return {
            "format": runs.FORMAT,
            "dgm": __version__,
            "model": registry.describe(self.model),
            "data": self.dataset.describe(),
            "training": asdict(self.settings),
        }

    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict() | self.average.shadow

    def pause(self, guard: Guard) -> None:
        """Between two steps: saves when it is time, and leaves when asked to."""
        if self.out is None:
            return
        if self.fabric.world_size > 1:
            guard.stopped = bool(self.fabric.all_reduce(torch.tensor(float(guard.stopped)), reduce_op="sum"))
        late = time.monotonic() - self.saved >= self.settings.checkpoint_every
        if self.fabric.world_size > 1:
            late = bool(self.fabric.broadcast(late))
        if guard.stopped or late:
            self.save()
        if guard.stopped:
            saved = f"stopped at step {self.step}, which is saved"
            raise Interrupted(saved, f"go on with: dgm train --resume {self.out}")

    def save(self) -> None:
        assert self.out is not None
        mine, values = checkpoint.random_states()
        tensors = {f"random/0/{name}": state for name, state in mine.items()}
        if self.fabric.world_size > 1:
            gathered = {name: self.fabric.all_gather(state) for name, state in mine.items()}
            ranks = range(self.fabric.world_size)
            tensors = {f"random/{rank}/{name}": states[rank] for name, states in gathered.items() for rank in ranks}
        if self.fabric.is_global_zero:
            tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= {f"ema/{name}": tensor for name, tensor in self.average.shadow.items()}
            tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
            for player_name, player in self.players.items():
                tensors |= {f"optimiser/{player_name}/{name}": tensor for name, tensor in player.state().items()}
            values |= {"step": self.step, "seconds": self.seconds, "players": list(self.players)}
            values["best_loss"] = self.best_loss if self.best else None
            checkpoint.save(self.out / "checkpoints", self.step, tensors, values, self.settings.keep)
        self.saved = time.monotonic()

    def restore(self) -> None:
        assert self.out is not None
        if not runs.Run(self.out).checkpoints():
            return  # killed before the first checkpoint: it starts again
        tensors, values = runs.Run(self.out).newest_checkpoint()
        self.model.load_state_dict(part(tensors, "model/"))
        self.average.shadow = {name: tensor.to(self.fabric.device) for name, tensor in part(tensors, "ema/").items()}
        self.best = part(tensors, "best/")
        self.best_loss = math.inf if values["best_loss"] is None else values["best_loss"]
        self.step, self.seconds = values["step"], values["seconds"]
        for name in values["players"]:
            self.player(name).restore(part(tensors, f"optimiser/{name}/"))
        checkpoint.restore_random_states(part(tensors, f"random/{self.fabric.global_rank}/"), values)

    def finish(self) -> None:
        """Leaves the selected weights in the model and in the run directory."""
        weights = self.best or {name: tensor.detach().clone() for name, tensor in self.weights().items()}
        if self.out is not None:
            self.save()
        self.model.load_state_dict(weights)
        self.model.eval()
        if self.out is None or not self.fabric.is_global_zero:
            return
        runs.write_weights(weights, self.out / "weights.safetensors")
        runs.write_manifest(self.out, ["weights.safetensors"])


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
