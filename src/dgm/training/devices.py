"""Which devices train, as how many processes."""

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
    """A lightning_fabric.Fabric; under torchrun, of as many processes as it started."""
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
    """FSDP2 is what lightning calls model parallel."""
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if settings.strategy == "fsdp":
        return ModelParallelStrategy(
            lambda model, mesh: shard(model, mesh["data_parallel"]),
            data_parallel_size=processes,
            tensor_parallel_size=1,
        )
    # weights are the same by then, and a broadcast between a loss and its backward pass would spoil the graph
    return DDPStrategy(gradient_as_bucket_view=True, init_sync=False)


def refuse_missing_devices(settings: Settings) -> None:
    """Before any process is started: those of torchrun are counted by torchrun.

    Raises:
        BadInput: For devices that this machine has not; on processors, for more than four processes each.
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
    """Whether this is the process that writes; known before the others are there."""
    from lightning_fabric.utilities import rank_zero

    rank: int = rank_zero.rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0


def broadcast(tensor: Tensor, fabric: Any) -> None:
    """Leaves the first process's numbers in the tensor of every process, sent as bytes."""
    content = tensor.detach().to(fabric.device).contiguous().clone().reshape(-1).view(torch.uint8)
    torch.distributed.broadcast(content, 0)
    tensor.detach().copy_(content.view(tensor.dtype).view(tensor.shape))


def summed(fabric: Any, *values: float) -> list[float]:
    """Sums over all processes."""
    if fabric.world_size == 1:
        return list(values)
    total: Tensor = fabric.all_reduce(torch.tensor(values, dtype=torch.float64), reduce_op="sum")
    return total.tolist()


def gathered(fabric: Any, rows: Tensor) -> Tensor:
    """Those of every process in the order of the whole batch, whose rows were dealt out one at a time."""
    if fabric.world_size == 1:
        return rows
    of_processes = [torch.empty_like(rows) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(of_processes, rows.contiguous())
    return torch.stack(of_processes, 1).flatten(0, 1)


def random_states(fabric: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Those of every process, named ``rank/generator``; of Python's and NumPy's values the first process's."""
    mine, values = random_state.random_states()
    if fabric.world_size == 1:
        return {f"0/{name}": state for name, state in mine.items()}, values
    gathered: dict[str, Tensor] = {}
    for name, state in mine.items():
        states = [torch.empty_like(state, device=fabric.device) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(states, state.to(fabric.device))
        gathered |= {f"{rank}/{name}": state for rank, state in enumerate(states)}
    return gathered, values


def leave(fabric: Any) -> None:
    """The first process is the one that the others talk through: who still listens when it leaves is aborted."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()
