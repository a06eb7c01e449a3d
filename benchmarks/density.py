"""The density of an ODE in steps of its own for each example, beside one step size that serves the whole batch."""

from __future__ import annotations

from functools import partial

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor

import dgm
from dgm import data
from dgm.protocols import Model
from dgm.samplers import flow_density
from dgm.samplers.change_of_variables import with_divergence
from dgm.samplers.diffusion import denoiser
from dgm.samplers.flow_density import TOLERANCE
from dgm.samplers.ode import integrate_adaptive
from dgm.samplers.probability_flow import velocity

ROUNDS = 3
N, STEPS = 50, 150


def one_step_for_all(model: Model, x_t: Tensor) -> None:
    """The integral of the divergence as `dgm.samplers.change_of_variables` has it, at one time for the whole batch."""
    v, probe = velocity(denoiser(model, None), model.path), torch.randint_like(x_t, 2) * 2 - 1

    def slope(state: Tensor, t: Tensor) -> Tensor:
        moved, divergence = with_divergence(v, state[:, :-1].view_as(x_t), t, probe)
        return torch.cat([moved.flatten(1), divergence[:, None]], 1)

    t_0 = flow_density.first_time(model).to(x_t)
    start = torch.cat([x_t.flatten(1), x_t.new_zeros(len(x_t), 1)], 1)
    for _ in integrate_adaptive(slope, start, t_0, torch.ones_like(t_0), TOLERANCE, TOLERANCE):
        pass


def main() -> None:
    digits = data.load("digits")
    for name in ("flow_matching", "ddpm"):
        torch.manual_seed(0)
        model = dgm.create(name, digits.space)
        for _ in dgm.fit(model, digits, steps=STEPS):
            pass
        model.eval()
        x = digits.test.x[:N]
        ours, peer = partial(flow_density.log_prob, model, x), partial(one_step_for_all, model, model.scaling(x))
        what = f"{name} on digits after {STEPS} steps, the densities of {N}; peer: one step size for all"
        in_turn(what, partial(seconds, ours), partial(seconds, peer), rounds=ROUNDS)


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
