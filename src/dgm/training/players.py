"""A player: the parameters that descend one loss, with their optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dgm import memory
from dgm.protocols import Model
from dgm.training.settings import Settings


def factor(step: int, progress: float, settings: Settings) -> float:
    """By what the peak learning rate is multiplied: a linear warm-up in steps, then half a cosine in progress."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return warm * (0.5 * (1 + math.cos(math.pi * progress)) if settings.schedule == "cosine" else 1.0)


def refuse_what_does_not_fit(model: Model, averaged: bool) -> None:
    """Before the first step takes it: a gradient and AdamW's two averages of each weight.

    Args:
        averaged: Whether there is a moving average too, and a copy of the weights while it stands in their place.

    Raises:
        BadInput: Where all this needs more memory than is free.
    """
    weights = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    what = f"training {type(model).__name__}, besides its weights,"
    memory.refuse_what_does_not_fit(what, (5 if averaged else 3) * weights, "choose a smaller model")


class Player:
    """Descends one loss with fused AdamW: first `gradient`, then `step`."""

    def __init__(self, module: nn.Module, settings: Settings, fabric: Any) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.settings, self.fabric = settings, fabric
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def gradient(self, loss: Tensor) -> Tensor:
        """Leaves a mean loss's gradient on the parameters and gives the loss, both averaged over all processes."""
        for parameter in self.parameters:
            parameter.grad = None  # zero_grad says the same to a profiler, at a tenth of a small model's step
        torch.autograd.backward(loss, inputs=self.parameters)
        return self.shared(loss.detach()) if self.fabric.world_size > 1 else loss.detach()

    def shared(self, loss: Tensor) -> Tensor:
        """One all-reduce of one flat buffer: a game's losses do not fit DistributedDataParallel (docs/adr/0005)."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([loss.float().view(1), *(gradient.flatten() for gradient in gradients)])
        mean, *parts = self.fabric.all_reduce(flat).split([1, *(p.numel() for p in self.parameters)])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return mean[0]

    def step(self, lr: float) -> None:
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip, foreach=True)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors, by the parameter's number and their name."""
        kept = self.optimiser.state_dict()["state"]
        return {f"{number}/{key}": tensor for number, values in kept.items() for key, tensor in values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        numbered: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            number, _, key = name.partition("/")
            numbered.setdefault(int(number), {})[key] = tensor
        for place, values in numbered.items():
            found, shape = {key: tensor.shape for key, tensor in values.items()}, self.parameters[place].shape
            if found != {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}:
                raise ValueError(f"AdamW's state of a parameter of shape {tuple(shape)} does not fit it")
        self.optimiser.load_state_dict({"state": numbered, "param_groups": self.optimiser.state_dict()["param_groups"]})
