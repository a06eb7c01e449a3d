r"""The density of a denoising model by its probability-flow ODE.

.. math:: \log p_{t_0}(x_{t_0}) = \log N(x_1; 0, \sigma_1^2) + \int_{t_0}^1 \operatorname{div} v(x_t, t)\, dt

A continuous x is used as x_{t_0}, so the density is normalised. A discrete x is dequantised by the noise of the path
at t_0, with the decoder P(x | x_{t_0}) of `dgm.distributions.discrete_decoder`:

.. math:: \log P(x) \ge E_{q(x_{t_0} | x)} [\log p_{t_0}(x_{t_0}) + \log P(x | x_{t_0}) - \log q(x_{t_0} | x)]

At t_0 the standard deviation of the noise is a quarter of the distance of two grey levels, or the smallest of the
network. It is a bound at any t_0: more noise loosens the bound by the decoder, and less noise makes the density hard to
learn.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equation 39; dequantisation
by the path's noise, Improved Techniques for Maximum Likelihood Estimation for Diffusion ODEs (Zheng et al., 2023),
arXiv:2305.03935, section 3.2, which truncates the noise in place of a decoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from dgm.composite import TrainsPart
from dgm.distributions import discrete_decoder
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.inputs import number, whole
from dgm.protocols import Batch, Conditions, Denoising, DenoisingModel, EstimatedLikelihood, PerExample, has
from dgm.samplers.change_of_variables import integrated_divergence
from dgm.samplers.diffusion import denoiser
from dgm.samplers.ode import TABLEAUX, Solver
from dgm.samplers.probability_flow import velocity
from dgm.space import Space

EXACT_TRACE = 16  # dimensions up to which the trace is exact, by D gradients for each evaluation
TOLERANCE = 1e-4  # relative and absolute tolerance of x and of nats at each step of the solver
DEQUANTISING = 1 / 4  # standard deviation of the dequantisation noise over the distance of two grey levels

Trace = Literal["auto", "exact", "hutchinson"]


@dataclass(frozen=True, kw_only=True)
class ODE:
    """The configuration of the solver of a density's ODE.

    Args:
        solver: ``dopri5``, the method of Dormand and Prince, has adaptive steps for each example and needs one to four
            hundred evaluations; ``euler``, ``heun`` and ``rk4`` take ``solver_steps`` steps, evenly spaced in t.
        tolerance: Relative and absolute tolerance of x and of the log-density at each step of dopri5.
        solver_steps: Number of steps of the other solvers.
        trace: The trace of the Jacobian. ``exact`` costs D gradients for each evaluation; ``hutchinson`` is an unbiased
            estimate with random signs and costs one; ``auto`` is exact in up to 16 dimensions.
    """

    solver: Solver = "dopri5"
    tolerance: float = TOLERANCE
    solver_steps: int = 100
    trace: Trace = "auto"

    def __post_init__(self) -> None:
        if self.solver not in TABLEAUX:
            raise UnknownName.of("solver of the density's ODE", str(self.solver), TABLEAUX)
        if self.trace not in get_args(Trace):
            raise UnknownName.of("trace", str(self.trace), get_args(Trace))
        if not number("tolerance", self.tolerance) > 0:
            raise BadInput(f"the tolerance must be above 0, got {self.tolerance}", "give one such as 1e-5")
        whole("solver_steps", self.solver_steps, low=1)

    def exact(self, space: Space) -> bool:
        """Whether the trace is exact."""
        return self.trace == "exact" or (self.trace == "auto" and space.dim <= EXACT_TRACE)

    def words(self, space: Space) -> str:
        """The configuration in a few words, for a table."""
        fixed = f"by {self.solver} in {self.solver_steps} steps"
        solved = f"to {self.tolerance:g}" if self.solver == "dopri5" else fixed
        trace = "exact" if self.exact(space) else "stochastic"
        return f"ODE {solved}, {trace} trace" + (", dequantised by noise" if space.discrete else "")


PLAIN = ODE()
CONFIGURED: ContextVar[ODE] = ContextVar("ode", default=PLAIN)


def ode_of(
    model: DenoisingModel,
    *,
    solver: Solver | None = None,
    tolerance: float | None = None,
    solver_steps: int | None = None,
    trace: Trace | None = None,
) -> ODE | None:
    """The configuration of the solver with the given arguments; None if no argument is given.

    Raises:
        Unsupported: If the likelihood of the model needs no ODE, or the solver does not have an argument.
    """
    named = {"solver": solver, "tolerance": tolerance, "solver_steps": solver_steps, "trace": trace}
    chosen: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if not chosen:
        return None
    if not has(model, EstimatedLikelihood) or not has(denoising_part(model), Denoising):
        wrong = f"the likelihood of {type(model).__name__} needs no ODE: it has no solver, tolerance or trace"
        raise Unsupported(wrong, "leave them out, or take a diffusion, score or flow-matching model of `dgm models`")
    ode = ODE(**chosen)
    unused = "solver_steps" if ode.solver == "dopri5" else "tolerance"
    if unused in chosen:
        raise Unsupported(f"the solver '{ode.solver}' has no {unused}", "leave that out, or choose another solver")
    return ode


def denoising_part(model: DenoisingModel) -> DenoisingModel:
    """The model, or the part of a composite that has its ODE."""
    return denoising_part(model.trained_part[1]) if isinstance(model, TrainsPart) else model


@contextmanager
def solved_by(ode: ODE) -> Iterator[None]:
    """A context in which `log_prob` has this configuration, also where a composite calls it."""
    token = CONFIGURED.set(ode)
    try:
        yield
    finally:
        CONFIGURED.reset(token)


@torch.no_grad()
def log_prob(model: DenoisingModel, x: Batch, y: Conditions | None = None, ode: ODE | None = None) -> PerExample:
    """One draw of the estimate of the log-density, or of the bound above, in nats; unbiased up to the solver's error.

    Args:
        model: A `dgm.protocols.Denoising`.
    """
    ode = ode or CONFIGURED.get()
    x_0, path, space = model.scaling(x), model.path, model.space
    t_0 = first_time(model).to(x_0)
    offset = model.scaling.ladj
    if space.discrete:
        alpha, sigma = path.alpha(t_0), path.sigma(t_0)
        x_t = alpha * x_0 + sigma * torch.randn_like(x_0)
        decoded = discrete_decoder.log_prob(x, x_t, alpha, sigma, space.values or 0).flatten(1).sum(1)
        offset = offset + decoded + space.dim * (0.5 * math.log(2 * math.pi * math.e) + sigma.log())
    else:
        x_t = x_0
    probe = None if ode.exact(space) else torch.randint_like(x_0, 2) * 2 - 1
    t_1 = torch.ones_like(t_0)

    def v(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        return velocity(denoiser(model, None if y is None else y[rows]), path)(x_t, t)

    solver_steps = None if ode.solver == "dopri5" else ode.solver_steps
    x_1, divergence = integrated_divergence(
        v, x_t, t_0, t_1, probe, tolerance=ode.tolerance, solver=ode.solver, solver_steps=solver_steps
    )
    prior = torch.distributions.Normal(0.0, path.sigma(t_1), validate_args=False)
    return prior.log_prob(x_1).flatten(1).sum(1) + divergence + offset


def first_time(model: DenoisingModel, share: float = DEQUANTISING) -> Tensor:
    """t_0, a float64 scalar, where sigma is this share of the distance of two grey levels, or the model's ``t_min``."""
    t_min = torch.tensor(model.t_min, dtype=torch.float64)
    if not model.space.discrete:
        return t_min
    noise = torch.tensor(share * 2 / ((model.space.values or 0) - 1), dtype=torch.float64)
    return torch.maximum(model.path.time_of(-noise.log()), t_min)


def method(model: DenoisingModel) -> str:
    """The default configuration of `log_prob` in a few words, for a table."""
    return PLAIN.words(model.space)
