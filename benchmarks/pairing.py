"""Pairing noise with data at the least cost, as each step of OT-CFM does; peer: POT's network simplex, as torchcfm.

Times of the processor, in one thread: those of the clock differ tenfold with what else runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy
import ot
import torch
from timing import in_turn, no_arguments, seconds

import dgm
from dgm import Space
from dgm.models.flow_matching.ot_cfm import pairs

ROUNDS = 5


def by_emd(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Draws from the plan with replacement: torchcfm's OTPlanSampler, method "exact"."""
    n = len(x)
    plan = ot.emd(ot.unif(n), ot.unif(n), (torch.cdist(x, z) ** 2).numpy()).flatten()
    drawn = numpy.random.default_rng(0).choice(n * n, p=plan / plan.sum(), size=n)
    return torch.from_numpy(drawn)


def share_of_a_step(n: int, size: int) -> None:
    """The pairing of a batch of images beside the whole step that it is part of, by the U-Net as it comes."""
    torch.manual_seed(0)
    model = dgm.create("ot_cfm", Space.levels((1, size, size), 256))
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    x = torch.randint(256, (n, 1, size, size), dtype=torch.uint8)

    def step() -> None:
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()

    data, noise = model.scaling(x).flatten(1), torch.randn(n, size * size)
    compare(
        f"pairing {n} images of {size}×{size}; peer: the complete training step of ot_cfm",
        lambda: pairs(data, noise),
        step,
    )


def compare(name: str, ours: Callable[[], Any], peer: Callable[[], Any]) -> None:
    in_turn(
        name,
        lambda: seconds(ours, time.process_time),
        lambda: seconds(peer, time.process_time),
        rounds=ROUNDS,
        unit="ms",
    )


def main() -> None:
    torch.set_num_threads(1)
    share_of_a_step(256, 28)
    for n in (256, 1024):
        for dim in (2, 64, 3072):
            torch.manual_seed(0)
            x, z = 2 * torch.rand(n, dim) - 1, torch.randn(n, dim)
            name = f"pairing {n} points in {dim} dimensions; peer: POT's emd and draws from its plan, as in torchcfm"
            compare(name, lambda x=x, z=z: pairs(x, z), lambda x=x, z=z: by_emd(x, z))


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
