"""The files of a training, and how a training resumes from them.

A checkpoint has everything that training changes. Two more, of the last two tenths of the training, are kept to roll
back to: their steps do not depend on the time, so that a resumed training rolls back to the same state. Frozen parts of
a model, such as a first stage, are stored once beside the checkpoints, in ``frozen.safetensors``. For a sharded model,
every process writes a file of its own rows, and any number of processes can read these files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dgm import __version__, files, runs, tensor_files
from dgm.protocols import parts_of
from dgm.seeds import mix
from dgm.training import checkpoint
from dgm.training.devices import random_states
from dgm.training.frozen import frozen_names
from dgm.training.random_state import restore_random_states
from dgm.training.sharding import is_sharded, placed_as, whole

if TYPE_CHECKING:
    from pathlib import Path

    from dgm.training.loop import Training

ROLLBACK = "rollback"


class Saving:
    """Saves a training in its run directory and restores it from there.

    Attributes:
        step: The step of the newest checkpoint; None before the first checkpoint.
        at: The time at which it was last checked whether a checkpoint is due.
    """

    def __init__(self, training: Training, out: Path) -> None:
        self.training, self.out = training, out
        self.step: int | None = None
        self.at = time.monotonic()
        self.frozen = frozen_names(training.whole)
        self.digest = ""  # sha256 of the file of frozen parts

    @property
    def first(self) -> bool:
        """Whether this process writes the tensors that are equal in all processes."""
        return bool(self.training.fabric.is_global_zero)

    def document(self) -> dict[str, Any]:
        of = self.training
        return {
            "format": runs.FORMAT,
            "dgm": __version__,
            "model": of.description,
            "data": of.dataset.describe(),
            "training": asdict(of.settings),
        }

    def begin(self, resume: bool) -> None:
        """Starts or resumes the run. The first checkpoint precedes config.json, so every resumable run has one."""
        if self.first:
            checkpoint.sweep(self.out, everything=not resume)
            (self.out / "manifest.json").unlink(missing_ok=True)  # its weights are no longer the final ones
        if resume:
            self.restore()
        elif self.frozen and self.first:
            state, kept = self.training.whole.state_dict(), self.out / tensor_files.FROZEN
            tensor_files.write_weights({name: state[name] for name in sorted(self.frozen)}, kept)
            self.digest = tensor_files.sha256(kept)
        self.save()
        if self.first:
            files.write_json(self.document(), self.out / "config.json")
        if not checkpoint.all_of(self.out / ROLLBACK):
            self.mark()

    def save(self) -> None:
        """Writes a checkpoint, unless there is one of this step."""
        of = self.training
        self.at = time.monotonic()
        if self.step == of.step:
            return
        tensors, values = self.state()
        folder = self.out / "checkpoints"
        if any(map(is_sharded, tensors.values())):
            checkpoint.save_shards(folder, tensors, values, of.settings.keep, of.fabric)
        elif self.first:
            checkpoint.save(folder, tensors, values, of.settings.keep)
        self.step = of.step

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the plain values of a checkpoint of this step."""
        of = self.training
        of.finite_weights()
        random, values = random_states(of.fabric)
        tensors = labelled("random", random) | labelled("model", self.moving(of.whole.state_dict()))
        tensors |= labelled("ema", of.ema.shadow) | labelled("best", of.validation.best)
        for name, player in of.players.items():
            tensors |= labelled(f"optimiser/{name}", player.state())
        values |= {"step": of.step, "seconds": of.seconds, "players": list(of.players)}
        values |= of.validation.state() | {"processes": of.fabric.world_size}
        values |= ({"slower": of.slower} if of.slower != 1 else {}) | ({"note": of.note} if of.note else {})
        if lasting := of.diagnosis.state():
            values["symptoms"] = lasting
        if self.digest:
            values["frozen"] = self.digest
        return tensors, values

    def mark(self) -> None:
        """Keeps this state to roll back to. A training by several processes, or by passes, has none."""
        of = self.training
        if of.fabric.world_size == 1 and not of.by_passes and of.slower == 1:
            checkpoint.save(self.out / ROLLBACK, *self.state(), keep=2)

    def roll_back(self, slower: float, note: str) -> None:
        """Restores the older of the two marked states, from which the training goes on with a smaller step."""
        of = self.training
        self.take(*tensor_files.checkpoint_state(checkpoint.all_of(self.out / ROLLBACK)[-2:][0]))
        of.slower, of.note = slower, note.format(step=of.step)
        checkpoint.forget_after(self.out / "checkpoints", of.step)
        last = checkpoint.newest(self.out / "checkpoints")
        # a training that resumes from that one diverges and is rolled back in the same way
        self.step = of.step if last is not None and last.name == f"step-{of.step:08d}" else None
        self.save()

    def moving(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that training can change."""
        return {name: tensor for name, tensor in state.items() if name not in self.frozen}

    def restore_weights(self) -> None:
        """Loads the weights of the newest checkpoint, before the model is used: a part may encode another's data."""
        if parts_of(self.training.whole):
            self.put_weights(*runs.Run(self.out).newest_checkpoint())

    def put_weights(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        whole_model = self.training.whole
        self.digest = values.get("frozen", "")
        weights = part(tensors, "model") | tensor_files.frozen_weights(self.out, self.digest)
        runs.put(placed_as(weights, whole_model.state_dict()), whole_model, self.out)

    def restore(self) -> None:
        tensors, values = runs.Run(self.out).newest_checkpoint()
        with runs.refusing(f"the newest checkpoint in {self.out} is not of this training"):
            self.take(tensors, values)
        self.step = self.training.step
        self.training.fabric.barrier()  # all processes read before one of them deletes
        if self.first:
            for folder in ("checkpoints", ROLLBACK):
                checkpoint.forget_after(self.out / folder, self.training.step)

    def take(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        of = self.training
        self.put_weights(tensors, values)
        of.ema.restore(placed_as(part(tensors, "ema"), of.ema.shadow))
        of.validation.restore(placed_as(part(tensors, "best"), of.model.state_dict()), values)
        of.step, of.seconds = values["step"], values["seconds"]
        of.slower, of.note = values.get("slower", 1.0), values.get("note", "")
        of.diagnosis.restore(values.get("symptoms", {}))
        of.players.clear()
        for name in values["players"]:
            of.player(name).restore(part(tensors, f"optimiser/{name}"))
        rank, processes = of.fabric.global_rank, of.fabric.world_size
        if values.get("processes", processes) != processes:
            if of.settings.compile:  # each process has its own stream
                torch.manual_seed(mix(of.settings.seed, rank, of.step) >> 1)
                return
            rank = 0
        if states := part(tensors, f"random/{rank}"):
            restore_random_states(states, values)

    def finish(self) -> None:
        """Writes the selected weights into the run directory."""
        self.save()
        weights = {name: whole(tensor) for name, tensor in self.training.whole.state_dict().items()}
        if self.first:
            tensor_files.write_weights(weights, self.out / "weights.safetensors")
            tensor_files.write_manifest(self.out, ["weights.safetensors"])
            shutil.rmtree(self.out / ROLLBACK, ignore_errors=True)


def labelled(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with a prefix, by their names without it: the inverse of `labelled`."""
    return {name.removeprefix(f"{prefix}/"): tensors[name] for name in tensors if name.startswith(f"{prefix}/")}
