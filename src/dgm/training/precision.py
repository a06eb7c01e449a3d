"""The precision of training: a timing of the model's own step decides between float32 and bfloat16."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from dgm.protocols import Fittable, Model, MultiPlayer, has
from dgm.training.devices import summed
from dgm.training.random_state import preserved_random_states
from dgm.training.settings import Settings

Precision: TypeAlias = Literal["32-true", "bf16-mixed"]
FLOAT32: Precision = "32-true"
BF16: Precision = "bf16-mixed"
CLEARLY = 1.2  # the smallest speed-up that justifies the lower precision
SECONDS, SHARE = 1.0, 0.02  # limits of the timing (the fewest rounds may take longer), and as a share of training
ROUNDS = (2, 10)  # the fewest and the most timed steps in each precision; the first is a warm-up


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == BF16 else nullcontext()


class PlayerLosses:
    """An iterable of each player's name and loss; a loss is computed when the iterator reaches it.

    Args:
        loss: The method ``loss_and_outputs``, ``loss`` or ``losses`` of a model.

    Attributes:
        outputs: The outputs of the loss for `dgm.protocols.Stateful.after_step`, after the last player.
    """

    def __init__(self, loss: Callable[..., Any], x: Tensor, y: Tensor | None, precision: Callable[[], Any]) -> None:
        self.loss, self.x, self.y, self.precision = loss, x, y, precision
        self.outputs: tuple[Tensor, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        with self.precision():
            losses = self.loss(self.x, self.y)
        if isinstance(losses, Tensor):
            yield "model", losses
        elif isinstance(losses, tuple):
            loss, self.outputs = losses
            yield "model", loss
        else:
            yield from self.of_game(losses)

    def of_game(self, game: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        while True:
            with self.precision():
                try:
                    pair = next(game)
                except StopIteration as end:
                    self.outputs = end.value or ()
                    return
            yield pair


def module_of(model: Any, player: str) -> torch.nn.Module:
    """The submodule of a player in a game; the model itself if there is only one player."""
    module: torch.nn.Module = model if player == "model" else model.get_submodule(player)
    return module


def loss_of(model: Model) -> Callable[..., Any]:
    """The method that computes the losses of x and y: see `PlayerLosses`."""
    if has(model, MultiPlayer):
        return model.losses
    return getattr(model, "loss_and_outputs", model.loss)


def choose(model: Model, x: Tensor, y: Tensor | None, settings: Settings, fabric: Any) -> tuple[Precision, str]:
    """The faster precision, and the reason for it in a sentence.

    The losses and gradients of a copy of the model are timed, and the random states are restored, so the training
    equals a training whose settings name the precision. Nothing is timed if two rounds would take more than a fiftieth
    of the training.
    """
    least = 2 * ROUNDS[0]  # steps
    short = settings.steps is not None and settings.steps * SHARE < least
    seconds = None if short or has(model, Fittable) else probed(model, x, y, settings, fabric.device)
    in_float32, in_bf16 = summed(fabric, *(seconds or (0.0, math.inf)))
    if math.isinf(in_bf16):
        return FLOAT32, ""
    in_float32, in_bf16 = in_float32 / fabric.world_size, in_bf16 / fabric.world_size
    precision: Precision = BF16 if in_float32 >= CLEARLY * in_bf16 else FLOAT32
    times = f"a step's loss and gradient take {1e3 * in_float32:.3g} ms in float32 and {1e3 * in_bf16:.3g} ms in bf16"
    return precision, f"precision {precision}: {times}"


def probed(
    model: Model, x: Tensor, y: Tensor | None, settings: Settings, device: torch.device
) -> tuple[float, float] | None:
    """The seconds of a step in float32 and in bfloat16; None if they cannot be compared."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    try:
        with preserved_random_states():
            return timed(copy.deepcopy(model), x, y, settings, device)
    except (
        RuntimeError
    ):  # bfloat16 lacks an operation, or memory is too small for two models; an error of float32 recurs in training
        return None


def timed(
    model: Model, x: Tensor, y: Tensor | None, settings: Settings, device: torch.device
) -> tuple[float, float] | None:
    """The fewest seconds of each precision, timed alternately, so that other load on the machine affects both."""
    began = time.perf_counter()
    seconds: list[tuple[float, float]] = []
    while len(seconds) < ROUNDS[1]:
        first = step_seconds(model, x, y, device, FLOAT32)
        budget = settings.budget if settings.budget is not None else (settings.steps or 0) * first
        if not seconds and 2 * ROUNDS[0] * first > SHARE * budget:
            return None
        seconds.append((first, step_seconds(model, x, y, device, BF16)))
        if len(seconds) >= ROUNDS[0] and time.perf_counter() - began > min(SECONDS, SHARE * budget):
            break
    in_float32, in_bf16 = zip(*seconds[1:], strict=True)
    return min(in_float32), min(in_bf16)


def step_seconds(model: Model, x: Tensor, y: Tensor | None, device: torch.device, precision: str) -> float:
    """The seconds of the losses and their gradients; infinite if a loss is not finite."""
    finished(device)
    began = time.perf_counter()
    total = torch.zeros((), device=device)
    for player, loss in PlayerLosses(loss_of(model), x, y, lambda: autocast(device, precision)):
        module = module_of(model, player)
        torch.autograd.backward(loss.mean(), inputs=[p for p in module.parameters() if p.requires_grad])
        total += loss.detach().sum()
    finished(device)
    took = time.perf_counter() - began
    model.zero_grad()
    return took if bool(total.isfinite()) else math.inf


def finished(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
