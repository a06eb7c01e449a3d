r"""EDM's stochastic sampler: each step adds noise ("churn") and then solves the ODE by a step of Heun's method.

In u = x / alpha and v = sigma / alpha each step from v to v' is

.. math:: \hat v = (1 + \gamma) v, \qquad \hat u = u + S_{noise} \sqrt{\hat v^2 - v^2}\, z, \qquad
    \frac{du}{dv} = \frac{u - \hat x_0}{v} = \hat\epsilon

A step from alpha = 0, where v is infinite, and the step to sigma = 0 are Euler steps.

Source: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364,
algorithm 2; without churn algorithm 1, for any path by the scaling of equation 4.
Differs from it: v̂ is at most the v of t = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import coefficients, float64


def edm(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    *,
    s_churn: float = 40.0,
    s_tmin: float = 0.05,
    s_tmax: float = 50.0,
    s_noise: float = 1.003,
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ...

    Args:
        noise: Draws a standard normal of x's shape; without it there is no churn for any s_churn.
        s_churn: The total amount of added noise: gamma is s_churn / sampling_steps, at most sqrt(2) - 1. The defaults
            are the paper's for ImageNet (table 5).
        s_tmin, s_tmax: The range of sigma / alpha with churn.
        s_noise: Slightly above 1, since predictions lose detail.
    """
    alpha, sigma, half_log_snr = coefficients(path, times)
    v = [math.exp(-lam) for lam in half_log_snr]
    gamma = 0.0 if noise is None else min(s_churn / (len(times) - 1), math.sqrt(2) - 1)
    churned = churn(path, times, gamma, s_tmin, s_tmax)
    alpha_hat, _, half_log_snr_hat = coefficients(path, churned)
    for k, (t, s) in enumerate(zip(churned.to(times), times[1:], strict=True)):
        v_hat = math.exp(-half_log_snr_hat[k])
        if v_hat > v[k] and noise is not None:
            x = alpha_hat[k] * (x / alpha[k] + s_noise * math.sqrt(v_hat**2 - v[k] ** 2) * noise())
        x_0, eps, _ = denoise(x, t)
        euler = alpha[k + 1] * x_0 + sigma[k + 1] * eps
        if sigma[k + 1] == 0 or alpha_hat[k] == 0:
            x = euler
        else:
            slope = (eps + denoise(euler, s).eps) / 2
            x = alpha[k + 1] * (x / alpha_hat[k] + (v[k + 1] - v_hat) * slope)
        yield x


def churn(path: GaussianPath, times: Tensor, gamma: float, s_tmin: float, s_tmax: float) -> Tensor:
    """t_hat for each time but the last, in float64."""
    t = float64(times[:-1])
    v = (-path.half_log_snr(t)).exp()
    later = path.time_of(-(v * (1 + gamma)).log())
    return torch.where((v >= s_tmin) & (v <= s_tmax), later, t) if gamma > 0 else t
