r"""DPM-Solver++(2M): the ODE or the SDE over lambda = log(alpha / sigma), where x_0 as predicted runs along a line.

.. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1) D, \qquad h = \lambda_s - \lambda_t, \qquad
    D = \Big(1 + \frac{1}{2r}\Big) \hat x_0(x_t) - \frac{1}{2r} \hat x_0(x_{t'}), \qquad r = h' / h

where t' is the time before t, and h' the step from there; with noise it is

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-h} x_t + \alpha_s (1 - e^{-2h}) D + \sigma_s \sqrt{1 - e^{-2h}}\, z

One evaluation a step. The linear part is exact, so that lambda may be infinite at both ends. Without a finite r (in the
first step, after one from alpha = 0, to sigma = 0) D is x_0 as predicted.

Source: DPM-Solver++ (Lu et al., 2022), arXiv:2211.01095, algorithm 2 and, for the SDE, SDE-DPM-Solver++(2M) there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import levels


def dpm_solver_pp(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
) -> Iterator[Tensor]:
    """The ODE, to second order. Yields the state at times[1], times[2], ..."""
    alpha, sigma, half_log_snr = levels(path, times)
    before: Tensor | None = None
    h_before = math.inf
    for k, t in enumerate(times[:-1]):
        x_0, h = denoise(x, t).x_0, half_log_snr[k + 1] - half_log_snr[k]
        x = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * math.expm1(-h) * line(x_0, before, h / h_before)
        before, h_before = x_0, h
        yield x


def sde_dpm_solver_pp(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
) -> Iterator[Tensor]:
    """The SDE that `ancestral` solves too, whose draws forget an error made early. Yields as `dpm_solver_pp`."""
    alpha, sigma, half_log_snr = levels(path, times)
    before: Tensor | None = None
    h_before = math.inf
    for k, t in enumerate(times[:-1]):
        x_0, h = denoise(x, t).x_0, half_log_snr[k + 1] - half_log_snr[k]
        share = -math.expm1(-2 * h)
        x = sigma[k + 1] / sigma[k] * math.exp(-h) * x + alpha[k + 1] * share * line(x_0, before, h / h_before)
        if sigma[k + 1] > 0:
            x = x + sigma[k + 1] * math.sqrt(share) * noise()
        before, h_before = x_0, h
        yield x


def line(x_0: Tensor, before: Tensor | None, inverse_r: float) -> Tensor:
    """D."""
    if before is None or not 0 < inverse_r < math.inf:
        return x_0
    return (1 + inverse_r / 2) * x_0 - inverse_r / 2 * before
