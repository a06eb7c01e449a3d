"""One model over several processes: replicas whose gradients are averaged, or shards of its weights.

`averaging` is torch's DistributedDataParallel, which averages gradients during the backward pass. `shard` is FSDP2
(torch's ``fully_shard``): each process has a part of every weight, of its gradient, of the optimiser's state and of
the moving average, and gathers the whole weights only while a loss needs them. See docs/adr/0009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dgm.composite import TrainsPart
from dgm.errors import Unsupported
from dgm.protocols import MultiPlayer, Regularised, has

FORWARDS = ("loss", "loss_and_outputs")  # the methods that compute a single loss


class Averaged(nn.Module):
    """A module with one player's parameters whose forward pass returns the loss unchanged.

    DistributedDataParallel prepares for a backward pass at the end of its module's forward pass. With this module it
    prepares for the backward pass of that player's loss, wherever the loss was computed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.own = nn.ParameterList(parameters)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def averaging(parameters: Iterable[nn.Parameter], fabric: Any) -> Callable[[Tensor], Tensor]:
    """The identity of the loss, whose backward pass averages the gradients over all processes."""
    averaged: Callable[[Tensor], Tensor] = fabric.strategy.setup_module(Averaged(parameters))
    return averaged


def blocks() -> tuple[type[nn.Module], ...]:
    """The layers of large networks, whose weights are gathered one layer at a time."""
    from dgm.networks import causal_transformer, dit, transformer, unet

    return (causal_transformer.Layer, dit.Block, transformer.Layer, unet.ResidualBlock)


def refuse_unshardable(model: Any) -> None:
    """
    Raises:
        Unsupported: If a weight of the model is a single number, the model has one loss and penalties, or it is a game
            that does not name its players.
    """
    name, is_game = type(model).__name__, has(model, MultiPlayer)
    single = [weight for weight, parameter in model.named_parameters() if parameter.ndim == 0]
    if single:
        wrong = f"the weight '{single[0]}' of {name} is a single number and cannot be sharded"
    elif has(model, Regularised) and not is_game and model.regularisers():
        wrong = f"{name} has penalties beside one loss"
    elif is_game and not hasattr(game_of(model), "players"):
        wrong = f"{name} does not name its players"
    else:
        return
    raise Unsupported(wrong, "use --strategy ddp")


def shard(model: Any, mesh: Any) -> Any:
    """Shards a model, or each player of a game, in place."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    is_game = has(model, MultiPlayer)
    for module in model.modules():
        if isinstance(module, blocks()):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    # unsharded weights that remain after a validation would be those of the moving average
    for root in players_of(model) if is_game else [model]:
        fully_shard(root, mesh=mesh, reshard_after_forward=True)
    for name in FORWARDS:
        if not is_game and hasattr(model, name):
            register_fsdp_forward_method(model, name)
    return model


def players_of(model: Any) -> list[nn.Module]:
    """The submodules of the players of a game."""
    game = game_of(model)
    return [game.get_submodule(name) for name in game.players]


def game_of(model: Any) -> Any:
    """The game that a composite trains; any other model itself."""
    return game_of(model.trained_part[1]) if isinstance(model, TrainsPart) else model


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """This process's rows of a sharded tensor; any other tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All rows of a sharded tensor; every process must call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor with the sharding of ``like``; each process takes its own rows, without communication."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    on_device = tensor.to(like.device)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def placed_as(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with the sharding of the tensor of the same name in ``like``."""
    return {name: placed(tensor, like[name]) if name in like else tensor for name, tensor in tensors.items()}


def averaged_statistics(model: Any) -> list[Tensor]:
    """The running statistics of torch's normalisation layers, which each process updates with its own examples."""
    from torch.nn.modules.batchnorm import _NormBase

    return [
        buffer
        for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]


@torch.no_grad()
def average(tensors: Iterable[Tensor], fabric: Any) -> None:
    """Replaces each tensor by its mean over all processes."""
    for tensor in tensors:
        tensor.copy_(fabric.all_reduce(tensor.clone(), reduce_op="mean"))
