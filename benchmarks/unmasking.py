"""Masked diffusion's sampler: beside its network asked as often, and beside values drawn everywhere at each step."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor

import dgm
from dgm import Space
from dgm.protocols import Model
from dgm.seeds import Streams

ROUNDS = 3
N = 16


@torch.no_grad()
def everywhere(model: Model, n: int) -> Tensor:
    """Values of all positions in each step, of which those revealed are kept."""
    draw, shape = Streams(0, range(n)), (n, model.space.dim)
    times = torch.linspace(1, 0, model.config.sampling_steps + 1)
    z = torch.full(shape, model.mask)
    for t, s in itertools.pairwise(times):
        logits = model.network(z, None)
        alpha_s, alpha_t = model.schedule.alpha(s), model.schedule.alpha(t)
        revealed = (z == model.mask) & (draw.uniform(shape[1:]) < (alpha_s - alpha_t) / (1 - alpha_t))
        z = torch.where(revealed, draw.categorical(logits), z)
    return z


@torch.no_grad()
def alone(model: Model, n: int) -> None:
    z = torch.full((n, model.space.dim), model.mask)
    for _ in range(model.config.sampling_steps):
        model.network(z, None)


def main() -> None:
    torch.manual_seed(0)
    for side, values in ((8, 17), (28, 256)):
        model = dgm.create("masked_diffusion", Space.levels((1, side, side), values), sampling_steps=32).eval()
        ours = partial(seconds, lambda model=model: model.sample(N, seed=0))
        name = f"masked diffusion, {N} samples of {side}×{side}, {values} values, in 32 steps"
        for peer, what in ((alone, "its network alone"), (everywhere, "values drawn everywhere each step")):
            beside = partial(seconds, partial(peer, model, N))
            in_turn(f"{name}; peer: {what}", ours, beside, rounds=ROUNDS, unit="ms")


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
