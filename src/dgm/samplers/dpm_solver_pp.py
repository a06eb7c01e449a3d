r"""DPM-Solver++(2M): the ODE or the SDE over lambda = log(alpha / sigma), with a linear predicted x_0.

.. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1) D, \qquad h = \lambda_s - \lambda_t, \qquad
    D = \Big(1 + \frac{1}{2r}\Big) \hat x_0(x_t) - \frac{1}{2r} \hat x_0(x_{t'}), \qquad r = h' / h

where t' is the time before t and h' the step from t' to t; the SDE adds noise:

.. math:: x_s = \frac{\sigma_s}{\sigma_t} e^{-h} x_t + \alpha_s (1 - e^{-2h}) D + \sigma_s \sqrt{1 - e^{-2h}}\, z

Each step needs one evaluation. The linear part is exact, so that lambda may be infinite at both ends. Where r is not
finite (in the first step, after a step from alpha = 0, and to sigma = 0) D is the predicted x_0.

Source: DPM-Solver++ (Lu et al., 2022), arXiv:2211.01095, algorithm 2 and, for the SDE, SDE-DPM-Solver++(2M) there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import coefficients


def dpm_solver_pp(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
) -> Iterator[Tensor]:
    """The second-order solver of the ODE. Yields the state at times[1], times[2], ..."""
    alpha, sigma, half_log_snr = coefficients(path, times)
    previous: Tensor | None = None
    h_previous = math.inf
    for k, t in enumerate(times[:-1]):
        x_0, h = denoise(x, t).x_0, half_log_snr[k + 1] - half_log_snr[k]
        x = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * math.expm1(-h) * extrapolated(x_0, previous, h / h_previous)
        previous, h_previous = x_0, h
        yield x


def sde_dpm_solver_pp(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
) -> Iterator[Tensor]:
    """The solver of the same SDE as `ancestral`, whose noise reduces early errors. Yields as `dpm_solver_pp`."""
    alpha, sigma, half_log_snr = coefficients(path, times)
    previous: Tensor | None = None
    h_previous = math.inf
    for k, t in enumerate(times[:-1]):
        x_0, h = denoise(x, t).x_0, half_log_snr[k + 1] - half_log_snr[k]
        share = -math.expm1(-2 * h)
        x = sigma[k + 1] / sigma[k] * math.exp(-h) * x + alpha[k + 1] * share * extrapolated(
            x_0, previous, h / h_previous
        )
        if sigma[k + 1] > 0:
            x = x + sigma[k + 1] * math.sqrt(share) * noise()
        previous, h_previous = x_0, h
        yield x


def extrapolated(x_0: Tensor, previous: Tensor | None, inverse_r: float) -> Tensor:
    """The extrapolated x_0, D."""
    if previous is None or not 0 < inverse_r < math.inf:
        return x_0
    return (1 + inverse_r / 2) * x_0 - inverse_r / 2 * previous
