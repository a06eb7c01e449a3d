"""The solvers by name. Any of them samples any model that is `dgm.protocols.Denoising`.

A solver is called as ``solver(denoise, path, x, times, noise)``: what the model expects of a state, the path, the state
at times[0], falling times, and a source of standard normals of x's shape. It yields the state at each later time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from dgm.samplers.ancestral import ancestral
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.ddim import ddim
from dgm.samplers.probability_flow import probability_flow


class Solver(NamedTuple):
    """How it solves, its order where it solves the ODE, and whether it draws noise on its way."""

    solve: Callable[..., Iterator[Tensor]]
    order: int | None
    stochastic: bool
    evaluations: int = 1  # of the network, a step


SOLVERS: Mapping[str, Solver] = {
    "annealed_langevin": Solver(annealed_langevin, None, stochastic=True, evaluations=5),
    "ancestral": Solver(ancestral, None, stochastic=True),
    "ddim": Solver(ddim, 1, stochastic=False),
    "euler": Solver(partial(probability_flow, method="euler"), 1, stochastic=False),
    "heun": Solver(partial(probability_flow, method="heun"), 2, stochastic=False, evaluations=2),
    "rk4": Solver(partial(probability_flow, method="rk4"), 4, stochastic=False, evaluations=4),
}
