"""The devices and the processes of a training."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.training import random_state
from dgm.training.settings import Settings
from dgm.training.sharding import shard


def fabric_for(settings: Settings) -> Any:
    """A lightning_fabric.Fabric; under torchrun, for the number of processes that torchrun started."""
    from lightning_fabric import Fabric

    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    here, everywhere = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    devices = here if by_torchrun else settings.devices
    nodes = everywhere // here if by_torchrun else 1
    return Fabric(
        accelerator=settings.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy_for(settings, devices * nodes) if by_torchrun or devices > 1 else "auto",
    )


def strategy_for(settings: Settings, processes: int) -> Any:
    """Lightning's strategy. Its model-parallel strategy is FSDP2."""
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if settings.strategy == "fsdp":
        return ModelParallelStrategy(
            lambda model, mesh: shard(model, mesh["data_parallel"]),
            data_parallel_size=processes,
            tensor_parallel_size=1,
        )
    # the weights are equal already, and a broadcast between a loss and its backward pass would break the graph
    return DDPStrategy(gradient_as_bucket_view=True, init_sync=False)


def refuse_missing_devices(settings: Settings) -> None:
    """Checks the number of devices before a process is started; under torchrun, torchrun checks it.

    Raises:
        BadInput: If the machine has fewer devices; on CPUs, if there are more than four processes for each core.
    """
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind: str = settings.accelerator
    if kind == "auto":
        kind = next((name for name, count in here.items() if count), "cpu")
    most = here.get(kind, 4 * (os.cpu_count() or 1))
    if settings.devices > most:
        wrong = f"this machine trains on up to {most} {kind} devices at once, got --devices {settings.devices}"
        raise BadInput(wrong if most else f"this machine has no {kind} device", "ask for fewer, or another accelerator")


def is_first_process() -> bool:
    """Whether this process writes the files; available before the other processes have started."""
    from lightning_fabric.utilities import rank_zero

    rank: int = rank_zero.rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


def broadcast(tensor: Tensor, fabric: Any) -> None:
    """Copies the tensor of the first process into the tensor of every process, as bytes."""
    content = tensor.detach().to(fabric.device).contiguous().clone().reshape(-1).view(torch.uint8)
    torch.distributed.broadcast(content, 0)
    tensor.detach().copy_(content.view(tensor.dtype).view(tensor.shape))


def summed(fabric: Any, *values: float) -> list[float]:
    """The sum of each value over all processes."""
    if fabric.world_size == 1:
        return list(values)
    total: Tensor = fabric.all_reduce(torch.tensor(values, dtype=torch.float64), reduce_op="sum")
    return total.tolist()


def gathered(fabric: Any, rows: Tensor) -> Tensor:
    """The rows of all processes in the order of the global batch, whose rows were assigned to processes in turn."""
    if fabric.world_size == 1:
        return rows
    of_processes = [torch.empty_like(rows) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(of_processes, rows.contiguous())
    return torch.stack(of_processes, 1).flatten(0, 1)


def random_states(fabric: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The random states of every process, named ``rank/generator``; Python's and NumPy's, of the first process only."""
    mine, values = random_state.random_states()
    if fabric.world_size == 1:
        return {f"0/{name}": state for name, state in mine.items()}, values
    gathered: dict[str, Tensor] = {}
    for name, state in mine.items():
        states = [torch.empty_like(state, device=fabric.device) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(states, state.to(fabric.device))
        gathered |= {f"{rank}/{name}": state for rank, state in enumerate(states)}
    return gathered, values
