r"""The density of a denoising model by its probability-flow ODE.

.. math:: \log p_{t_0}(x_{t_0}) = \log N(x_1; 0, \sigma_1^2) + \int_{t_0}^1 \operatorname{div} v(x_t, t)\, dt

A continuous x is taken as x_{t_0}, so the density is normalised. A discrete x is dequantised by the noise of the path
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

import torch
from torch import Tensor

from dgm.distributions import discrete_decoder
from dgm.protocols import Batch, Conditions, Model, PerExample
from dgm.samplers.change_of_variables import integrated_divergence
from dgm.samplers.diffusion import denoiser
from dgm.samplers.probability_flow import velocity

EXACT_TRACE = 16  # dimensions up to which the trace is exact, by D gradients for each evaluation
TOLERANCE = 1e-4  # relative and absolute tolerance of x and of nats at each step of the solver
DEQUANTISING = 1 / 4  # standard deviation of the dequantising noise over the distance of two grey levels


@torch.no_grad()
def log_prob(model: Model, x: Batch, y: Conditions | None = None, *, tolerance: float = TOLERANCE) -> PerExample:
    """One draw of the estimate, in nats: unbiased but for the solver's error, of the density or of the bound above.

    The trace is exact in up to 16 dimensions, otherwise stochastic with random signs. The solver is the Dormand-Prince
    method with 100 to 400 evaluations and its own step sizes for each example.

    Args:
        model: A `dgm.protocols.Denoising`.
    """
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
    probe = None if space.dim <= EXACT_TRACE else torch.randint_like(x_0, 2) * 2 - 1
    t_1 = torch.ones_like(t_0)

    def v(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        return velocity(denoiser(model, None if y is None else y[rows]), path)(x_t, t)

    x_1, divergence = integrated_divergence(v, x_t, t_0, t_1, probe, tolerance=tolerance)
    prior = torch.distributions.Normal(0.0, path.sigma(t_1), validate_args=False)
    return prior.log_prob(x_1).flatten(1).sum(1) + divergence + offset


def first_time(model: Model, share: float = DEQUANTISING) -> Tensor:
    """t_0, a float64 scalar, where sigma is this share of the distance of two grey levels, or the model's ``t_min``."""
    t_min = torch.tensor(model.t_min, dtype=torch.float64)
    if not model.space.discrete:
        return t_min
    noise = torch.tensor(share * 2 / ((model.space.values or 0) - 1), dtype=torch.float64)
    return torch.maximum(model.path.time_of(-noise.log()), t_min)


def method(model: Model) -> str:
    """A short description of `log_prob` for a table."""
    trace = "exact trace" if model.space.dim <= EXACT_TRACE else "stochastic trace"
    return f"ODE to {TOLERANCE:g}, {trace}" + (", dequantised by noise" if model.space.discrete else "")
