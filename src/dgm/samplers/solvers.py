"""The table of solvers. Each can sample every `dgm.protocols.Denoising`.

A solver is called as ``solver(denoise, path, x, times, noise)`` with the prediction of the model, the path, the state
at times[0], decreasing times, and a source of standard normals of x's shape. It yields the state at each later time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from dgm.samplers.ancestral import ancestral
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.ddim import ddim
from dgm.samplers.dpm_solver_pp import dpm_solver_pp, sde_dpm_solver_pp
from dgm.samplers.edm import edm
from dgm.samplers.predictor_corrector import predictor_corrector
from dgm.samplers.probability_flow import adaptive, probability_flow
from dgm.samplers.reverse_sde import euler_maruyama
from dgm.samplers.unipc import unipc


class Solver(NamedTuple):
    """A solver and its properties.

    Attributes:
        order: Order of weak convergence in the step size; None if samples do not become exact with more sampling steps.
        stochastic: Whether it adds noise.
        evaluations: Evaluations of the network for each sampling step; None for adaptive steps.
    """

    solve: Callable[..., Iterator[Tensor]]
    order: int | None
    stochastic: bool
    evaluations: int | None = 1


SOLVERS: Mapping[str, Solver] = {
    "adaptive": Solver(adaptive, 5, stochastic=False, evaluations=None),
    "ancestral": Solver(ancestral, 1, stochastic=True),
    "annealed_langevin": Solver(annealed_langevin, None, stochastic=True, evaluations=5),
    "ddim": Solver(ddim, 1, stochastic=False),
    "dpmpp_2m": Solver(dpm_solver_pp, 2, stochastic=False),
    "dpmpp_2m_sde": Solver(sde_dpm_solver_pp, 2, stochastic=True),
    "edm": Solver(edm, None, stochastic=True, evaluations=2),
    "euler": Solver(partial(probability_flow, method="euler"), 1, stochastic=False),
    "euler_maruyama": Solver(euler_maruyama, 1, stochastic=True),
    "heun": Solver(partial(probability_flow, method="heun"), 2, stochastic=False, evaluations=2),
    "predictor_corrector": Solver(predictor_corrector, None, stochastic=True, evaluations=2),
    "rk4": Solver(partial(probability_flow, method="rk4"), 4, stochastic=False, evaluations=4),
    "unipc": Solver(unipc, 3, stochastic=False),
}
