r"""Predictor-corrector sampling: a step of the reverse process, then Langevin steps on the density where it has led to.

.. math::
    x_s &= (2 - \alpha_{t|s}) x_t + \sigma_{t|s}^2\, s(x_t, t) + \sigma_{t|s} z \\
    x_s &\leftarrow x_s + \epsilon\, s(x_s, s) + \sqrt{2 \epsilon}\, z, \qquad
        \epsilon = 2 \alpha_{s|u}^2 (r \sigma_s)^2

where u is the time after s, and :math:`\alpha_{s|u}` is that of the step before where none is. A step from alpha = 0
draws :math:`q(x_s | \hat x_0)` instead; the step to sigma = 0 goes to x_0 as predicted.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, algorithms 1-5 and equation
46, where :math:`\alpha_{t|s}` is 1 on variance-exploding paths and :math:`\sqrt{1 - \beta_i}` on variance-preserving
ones, and :math:`\alpha_{s|u}^2` the :math:`\alpha_i` of algorithm 5.
Differs from it: epsilon is 2 alpha_i (r |z| / |s|)² there, with norms over the batch; here both norms are what they are
of noise, sqrt(D) and sqrt(D) / sigma, so that no sample depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import float64, levels


def predictor_corrector(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
    *,
    snr: float = 0.16,
    corrections: int = 1,
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ...; x_0 as predicted where there is no noise.

    Args:
        snr: r, the paper's for variance-exploding paths.
        corrections: Langevin steps at each time.
    """
    alpha, sigma, _ = levels(path, times)
    alpha_ts, var_ts = (part.tolist() for part in path.transition(float64(times[1:]), float64(times[:-1])))
    for k in range(len(times) - 1):
        x_0, eps, _ = denoise(x, times[k])
        if sigma[k + 1] == 0:
            x = alpha[k + 1] * x_0
        else:
            if alpha[k] == 0:
                x = alpha[k + 1] * x_0 + sigma[k + 1] * noise()
            else:
                x = (2 - alpha_ts[k]) * x - var_ts[k] / sigma[k] * eps + math.sqrt(var_ts[k]) * noise()
            alpha_su = alpha_ts[min(k + 1, len(alpha_ts) - 1)]
            epsilon = 2 * (alpha_su * snr * sigma[k + 1]) ** 2
            for _ in range(corrections):
                x = x - epsilon / sigma[k + 1] * denoise(x, times[k + 1]).eps + math.sqrt(2 * epsilon) * noise()
        yield x
