"""Laws of denoising models."""

from __future__ import annotations

import torch

from dgm.contracts.examples import random_conditions, with_condition
from dgm.contracts.likelihood import FALSE_ALARMS
from dgm.contracts.outcome import Skipped, require
from dgm.evaluation.annealed import Z, interval
from dgm.protocols import AnnealedConstant, Denoising, Model, has
from dgm.samplers import diffusion
from dgm.samplers.diffusion import SamplerConfig


@torch.no_grad()
def estimate_integrates_to_one(model: Model) -> str:
    """The exponential of the estimate integrates to one."""
    if model.space.shape != (2,) or model.space.bounds is not None:
        raise Skipped("the law is checked for unbounded vectors of two dimensions only")
    # the estimate is the density of the ODE's samples; those of an SDE differ unless the score is that of a density
    ode = SamplerConfig(solver="heun", sampling_steps=50)
    denoises = has(model, Denoising)
    labelled = with_condition(model, 300)
    x = diffusion.sample(model, *labelled, seed=0, sampler=ode) if denoises else model.sample(*labelled, seed=0)
    side, half = torch.linspace(-1, 1, 41), 7 * x.std(0)
    points, area = x.mean(0) + torch.cartesian_prod(side, side) * half, float((half * (side[1] - side[0])).prod())
    total = float(model.log_prob_estimate(*with_condition(model, points)).double().exp().sum() * area)
    off = FALSE_ALARMS * error_of_constant(model)
    return require(abs(total - 1) < 2e-2 + off, f"integral of exp(estimate) over a grid = {total:.4f} ± {off:.4f}")


def error_of_constant(model: Model) -> float:
    """The standard error of log Z where annealed importance sampling estimates it, or else 0."""
    if not has(model, AnnealedConstant):
        return 0.0
    forward = interval(model.log_z_weights(*with_condition(model, 1)[1:]), 1)
    return (forward["high"] - forward["log_z"]) / Z


@torch.no_grad()
def predictions_reconstruct_x_t(model: Model) -> str:
    """The predicted x_0 and the predicted noise add up to x_t, with a condition and without."""
    t = torch.linspace(max(model.t_min, 0.02), 0.98, 16)
    x_t, worst = torch.randn(16, *model.space.shape), 0.0
    for y in (None, random_conditions(model, 16)):
        ends = model.predict(x_t, t, y)
        mean, std = model.path.marginal(ends[0], t)
        worst = max(worst, float(((mean + std * ends[1] - x_t) / (1 + x_t.abs() + mean.abs())).abs().max()))
    return require(worst < 1e-4, f"largest relative difference {worst:.2g}")
