"""A player: the parameters that minimise one loss, with their optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dgm import memory
from dgm.protocols import Model
from dgm.training.settings import PlayerSettings, Settings
from dgm.training.sharding import averaging, is_sharded, placed


def factor(step: int, progress: float, settings: Settings) -> float:
    """The factor of the peak learning rate: a linear warm-up in steps, then a half cosine in the progress."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return warm * (0.5 * (1 + math.cos(math.pi * progress)) if settings.schedule == "cosine" else 1.0)


def refuse_too_large(model: Model, averaged: bool, shards: int = 1) -> None:
    """Checks, before the first step, the memory for a gradient and AdamW's two moments of each weight.

    Args:
        averaged: Whether there is a moving average too, with a copy of the weights while the model has the average.
        shards: The number of processes over which these tensors are sharded.

    Raises:
        BadInput: If these tensors need more memory than is free.
    """
    weights = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    what = f"training {type(model).__name__}, besides its weights,"
    memory.refuse_too_large(what, (5 if averaged else 3) * weights // shards, "choose a smaller model")


# optimiser -> its constructor from the settings, and the tensors of its state for each parameter besides the step
OPTIMISERS: Mapping[str, tuple[Callable[[Any, Any], torch.optim.Optimizer], set[str]]] = {
    "adamw": (
        lambda parameters, own: torch.optim.AdamW(
            parameters, lr=own.lr, betas=own.betas, weight_decay=own.weight_decay, fused=True
        ),
        {"step", "exp_avg", "exp_avg_sq"},
    ),
    "rmsprop": (
        lambda parameters, own: torch.optim.RMSprop(
            parameters, lr=own.lr, alpha=own.betas[1], weight_decay=own.weight_decay, foreach=True
        ),
        {"step", "square_avg"},
    ),
    "sgd": (
        lambda parameters, own: torch.optim.SGD(
            parameters, lr=own.lr, momentum=own.betas[0], weight_decay=own.weight_decay, foreach=True
        ),
        {"momentum_buffer"},
    ),
}


class Player:
    """Minimises one loss with its own optimiser: first `gradient`, then `step`.

    Args:
        own: The settings of the player, none of them None.
    """

    def __init__(self, module: nn.Module, own: PlayerSettings, fabric: Any) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.own: Any = own
        self.fabric = fabric
        make, self.keeps = OPTIMISERS[str(own.optimiser)]
        self.optimiser = make(self.parameters, own)
        self.sharded = any(map(is_sharded, self.parameters))
        several = fabric.world_size > 1
        self.averaged = averaging(self.parameters, fabric) if several and not self.sharded else None

    def gradient(self, loss: Tensor, penalty: Tensor | None = None) -> Tensor:
        """Sets the gradients of the parameters to those of a mean loss and its penalty, and returns the loss. Both are
        averaged over all processes.
        """
        for parameter in self.parameters:
            parameter.grad = None  # zero_grad's profiling takes a tenth of a small model's step
        total = loss if penalty is None else loss + penalty
        if self.averaged is not None:
            total = self.averaged(total)
        # the leaves of a sharded model's graph are the unsharded weights, which are freed after the backward pass
        torch.autograd.backward(total, inputs=None if self.sharded else self.parameters)
        mean = loss.detach()
        return self.fabric.all_reduce(mean.float(), reduce_op="mean") if self.fabric.world_size > 1 else mean

    def gradient_norm(self) -> float:
        """Of the last step's gradient, after its clipping."""
        return float(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=True))

    def step(self, factor: float) -> None:
        """One step of the optimiser, at ``factor`` times the peak learning rate."""
        if self.own.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.own.clip, foreach=True)
        self.optimiser.param_groups[0]["lr"] = self.own.lr * factor
        self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors, by the number of the parameter and the name of the tensor."""
        state = self.optimiser.state_dict()["state"]
        return {
            f"{number}/{key}": tensor
            for number, values in state.items()
            for key, tensor in values.items()
            if tensor is not None
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        numbered: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            number, _, key = name.partition("/")
            numbered.setdefault(int(number), {})[key] = tensor
        for place, values in numbered.items():
            parameter = self.parameters[place]
            shapes, shape = {key: tensor.shape for key, tensor in values.items()}, parameter.shape
            if shapes != {key: torch.Size() if key == "step" else shape for key in self.keeps}:
                kind = self.own.optimiser
                raise ValueError(f"the state that {kind} keeps of a parameter of shape {tuple(shape)} does not fit it")
            for key in self.keeps - {"step"}:
                values[key] = placed(values[key], parameter)
                if values[key].stride() != parameter.stride():  # a fused step reads both in the order of memory
                    values[key] = torch.empty_like(parameter, requires_grad=False).copy_(values[key])
        self.optimiser.load_state_dict({"state": numbered, "param_groups": self.optimiser.state_dict()["param_groups"]})
