r"""Samples of images given a linear measurement, by a model that undoes noise and was trained for nothing else.

.. math:: y = A x + \sigma_y n, \qquad A = U S V^T

The walk from noise to data is DDPM's, one ancestral step :math:`x_s = a_t \hat x_0 + b_t x_t + \sigma_t z` after the
other, but in the basis V all that the measurement saw at less noise than there is in x_s is drawn from the measurement:

.. math:: \bar x_s = \alpha_s \bar y + \sqrt{\sigma_s^2 - \alpha_s^2 \sigma_y^2 / s_i^2} \; z, \qquad
    \bar x = V^T x, \quad \bar y = S^+ U^T y

With A a mask and no noise it is RePaint (Lugmayr et al., 2022), arXiv:2201.09865, equation 8; with any A it is DDRM,
Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, equation 8, with eta_b = 1, upper case.
Differs from DDRM: steps are taken again, as in RePaint, and are ancestral in what is not or no longer drawn from y.

It is exact where A is a multiple of the identity, and then denoises. Elsewhere it is exact at no number of steps: what
is generated at strong noise knows little of what is measured, which `Resampling` mends. Of Gaussian images with the
upper half given, the mean of the lower half goes 0.5 of the way from the prior's to the posterior's with no resampling,
0.84 with 5 resamplings of 5 steps out of 50 and 0.9 with 10 of 10; its standard deviation is 0.92 to 1 of what it ought
to be. The walk goes back only while all that is measured is drawn from y, which it would forget afterwards. Without
noise A x is what was measured, exactly, before x is rounded to levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dgm.editing.operators import Masked, Operator
from dgm.editing.resampling import Resampling
from dgm.networks.conditions import check_condition
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.protocols import Conditions, Model, State
from dgm.samplers.diffusion import clamped, denoiser
from dgm.samplers.times import float64, times
from dgm.seeds import Seed, streams

Noise = Callable[[], Tensor]
# from x at time t to x at time s < t
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def restore(
    model: Model,
    measured: Tensor,
    operator: Operator,
    y: Conditions | None = None,
    *,
    noise_std: float = 0.0,
    seed: Seed = None,
    resampling: Resampling | None = None,
) -> Iterator[State]:
    """Samples of x given ``measured`` = A x + noise, as states from noise to data.

    Args:
        model: A `dgm.protocols.Denoising`.
        measured: (n, ...), of x as `model.scaling` scales it.
        noise_std: sigma_y, in the same units.
        y: (n,) labels; None asks for none, of any model.
    """
    draw = streams(len(measured), seed, model.scaling.loc.device)
    back = operator.pinv(measured.to(model.scaling.loc))

    def noise() -> Tensor:
        return draw.normal(model.space.shape).to(back)

    step = conditioned(prior(model, y), model.path, back, operator, noise_std, noise)
    return walk(
        model, step, noise, resampling or Resampling(), enough=operator.least / noise_std if noise_std else None
    )


def inpaint(
    model: Model,
    x: Tensor,
    known: Tensor,
    y: Conditions | None = None,
    *,
    seed: Seed = None,
    resampling: Resampling | None = None,
) -> Iterator[State]:
    """RePaint: samples of the rest of ``x`` given its known pixels.

    Args:
        x: (n, *shape), in the data's own space; what is not known of it is not looked at.
        known: bool, of a shape that multiplies x.
    """
    operator = Masked(known.to(model.scaling.loc.device))
    given = operator(model.scaling(x.to(model.scaling.loc.device)))
    return restore(model, given, operator, y, seed=seed, resampling=resampling)


def prior(model: Model, y: Conditions | None) -> Denoise:
    """What the model expects, within the data's bounds where its own sampler keeps to them."""
    denoise = denoiser(model, y if y is None else check_condition(y, model.condition))
    bounded = model.sampler.clamp and (model.space.discrete or model.space.bounds)
    return clamped(denoise, model.path) if bounded else denoise


@torch.no_grad()
def walk(
    model: Model, step: Step, noise: Noise, resampling: Resampling, enough: float | None = None
) -> Iterator[State]:
    """The states of a walk that goes back now and then, by the forward process (arXiv:2201.09865, line 10).

    Args:
        enough: alpha / sigma from which on it goes back no more; None for always.
    """
    path = model.path
    grid = times(path, resampling.sampling_steps, t_min=model.t_min)
    x = path.sigma(grid[0]) * noise()
    clear = (
        resampling.sampling_steps if enough is None else int((path.half_log_snr(grid) <= math.log(enough)).sum()) - 1
    )
    grid, moves = grid.to(x), list(resampling.walk(clear))
    for k, (here, there) in enumerate(moves, 1):
        t, s = grid[here], grid[there]
        if there > here:
            x = step(x, t, s)
        else:
            alpha_st, var_st = (float(part) for part in path.transition(*float64(torch.stack([t, s]))))
            x = alpha_st * x + var_st**0.5 * noise()
        yield State(model.scaling.inverse(x), k, len(moves))


def conditioned(
    denoise: Denoise, path: GaussianPath, back: Tensor, operator: Operator, noise_std: float, noise: Noise
) -> Step:
    """The step of this page's formulas; ``back`` is A^+ y, which is ybar in the basis V."""

    def step(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        b, a, std = (float(part) for part in path.posterior_coefficients(*float64(torch.stack([s, t]))))
        alpha, sigma = (float(part) for part in (path.alpha(s), path.sigma(s)))

        def from_y(value: Tensor) -> Tensor:
            return ((value > 0) & (alpha * noise_std <= sigma * value)).to(value)

        def spread(value: Tensor) -> Tensor:
            drawn = sigma**2 - (alpha * noise_std / value.clamp_min(1e-12)).square()
            return torch.where(from_y(value) > 0, drawn.clamp_min(0), std**2).sqrt()

        x = a * denoise(x, t).x_0 + b * x
        x = x + operator.spectral(from_y, alpha * back - x)
        return x + operator.spectral(spread, noise()) if sigma > 0 else x

    return step
