"""Whether the chains that sample an energy-based model have mixed: split-R̂ and effective sample size of the energy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dgm.modes import evaluating
from dgm.protocols import Model, Progressive, Unnormalised, has
from dgm.samplers.convergence import FEWEST, effective_sample_size, split_r_hat

CHAINS = 32


@torch.no_grad()
def mixing(model: Model, y: Tensor | None, seed: int) -> dict[str, Any] | None:
    """Of 32 chains in the last half of a sample's sweeps; None for a model without chains or without an energy.

    Args:
        y: One condition, (1, *shape), of all chains; None for an unconditional model.
    """
    if not has(model, Progressive, Unnormalised):
        return None
    of_all = None if y is None else y.expand(CHAINS, *y.shape[1:])
    energies = []
    with evaluating(model):
        for state in model.trajectory(CHAINS, of_all, seed=seed):
            if 2 * state.sampling_step > state.sampling_steps:
                energies.append(model.energy(state.x, of_all).double().cpu())
    chains = torch.stack(energies, 1)
    if chains.shape[1] < FEWEST or not bool(chains.isfinite().all()) or not float(chains.var(1).mean()):
        return None
    return {
        "r_hat": split_r_hat(chains),
        "effective": effective_sample_size(chains),
        "chains": CHAINS,
        "states": chains.shape[1],
        "rule": "rank-normalised split-R̂ and bulk effective sample size of the energy, last half of a sample's chain",
    }
