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

from dgm.models.flow_matching.ot_cfm import pairs

ROUNDS = 5


def by_emd(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Draws from the plan with replacement: torchcfm's OTPlanSampler, method "exact"."""
    n = len(x)
    plan = ot.emd(ot.unif(n), ot.unif(n), (torch.cdist(x, z) ** 2).numpy()).flatten()
    drawn = numpy.random.default_rng(0).choice(n * n, p=plan / plan.sum(), size=n)
    return torch.from_numpy(drawn)


def main() -> None:
    torch.set_num_threads(1)
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
