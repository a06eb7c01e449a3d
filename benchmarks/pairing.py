"""Pairing noise with data at the least cost, as each step of OT-CFM does; peer: POT's network simplex, as torchcfm.

Times of the processor, in one thread: those of the clock differ tenfold with what else runs.
"""

from __future__ import annotations

import json
import statistics
import time

import numpy
import ot
import torch

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
    times: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        pairs(data, noise)
        between = time.process_time()
        step()
        times.append((1000 * (between - started), 1000 * (time.process_time() - between)))
    ours, peer = (statistics.median(column) for column in zip(*times, strict=True))
    name = f"pairs of {n} images of {size}×{size}; peer: the whole step of ot_cfm"
    print(json.dumps({"name": name, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": "ms"}))


def main() -> None:
    torch.set_num_threads(1)
    share_of_a_step(256, 28)
    for n in (256, 1024):
        for dim in (2, 64, 3072):
            torch.manual_seed(0)
            x, z = 2 * torch.rand(n, dim) - 1, torch.randn(n, dim)
            times: dict[object, list[float]] = {pairs: [], by_emd: []}
            for _ in range(ROUNDS):
                for method in (pairs, by_emd):
                    started = time.process_time()
                    method(x, z)
                    times[method].append(1000 * (time.process_time() - started))
            ours, peer = (statistics.median(seconds) for seconds in times.values())
            name = f"pairs of {n} points in {dim} dimensions; peer: POT's emd and draws of its plan, as torchcfm"
            print(json.dumps({"name": name, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": "ms"}))


if __name__ == "__main__":
    main()
