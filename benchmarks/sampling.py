"""A sample's time beside that of the bare network, asked as often on the same batch: what a solver itself costs."""

from __future__ import annotations

from typing import Any

import torch
from timing import in_turn, no_arguments, seconds

import dgm
from dgm import Space
from dgm.samplers import diffusion
from dgm.samplers.diffusion import SamplerConfig

ROUNDS = 5
SOLVERS = ("ddim", "ancestral", "dpmpp_2m", "unipc", "dpmpp_2m_sde", "heun")


@torch.no_grad()
def beside_bare_network(name: str, model: Any, n: int, steps: int) -> None:
    """The least of each side's rounds: what else runs on the machine only adds."""
    model.eval()
    asked: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    x, t = torch.randn(n, *model.space.shape), torch.full((n,), 0.5)
    for solver in SOLVERS:
        sampler = SamplerConfig(solver=solver, sampling_steps=steps, spacing="log_snr", clamp=True)
        asked.clear()
        diffusion.sample(model, n, seed=0, sampler=sampler)
        evaluations = len(asked)

        def ours(sampler: SamplerConfig = sampler, evaluations: int = evaluations) -> float:
            return seconds(lambda: diffusion.sample(model, n, seed=0, sampler=sampler)) / evaluations

        def bare(evaluations: int = evaluations) -> float:
            return seconds(lambda: [model.network(x, t) for _ in range(evaluations)]) / evaluations

        what = (
            f"{name}, {n} samples in {steps} sampling steps of {solver}, time per evaluation; peer: the network alone"
        )
        in_turn(what, ours, bare, rounds=ROUNDS, unit="ms", of=min)


def main() -> None:
    torch.manual_seed(0)
    images = dgm.create("ddpm", Space.levels((1, 28, 28), 256), width=32)
    beside_bare_network("DDPM's U-Net (width 32, 28×28)", images, 64, 10)
    points = dgm.create("flow_matching", Space.continuous((2,)), width=64)
    beside_bare_network("flow matching's perceptron (3 layers of 256)", points, 1024, 50)


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
