r"""Predictor-corrector sampling: a step of the reverse process, then Langevin steps at the new time.

.. math::
    x_s &= (2 - \alpha_{t|s}) x_t + \sigma_{t|s}^2\, s(x_t, t) + \sigma_{t|s} z \\
    x_s &\leftarrow x_s + \epsilon\, s(x_s, s) + \sqrt{2 \epsilon}\, z, \qquad
        \epsilon = 2 \alpha_{s|u}^2 (r \sigma_s)^2

where u is the time after s; at the last s, :math:`\alpha_{s|u}` is that of the step before. A step from alpha = 0 draws
from :math:`q(x_s | \hat x_0)` instead; the step to sigma = 0 gives the predicted x_0.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, algorithms 1-5 and equation
46, where :math:`\alpha_{t|s}` is 1 on variance-exploding paths and :math:`\sqrt{1 - \beta_i}` on variance-preserving
ones, and :math:`\alpha_{s|u}^2` the :math:`\alpha_i` of algorithm 5.
Differs from it: epsilon is 2 alpha_i (r |z| / |s|)² there, with norms over the batch; here both norms are
replaced by those of pure noise, sqrt(D) and sqrt(D) / sigma, so that samples are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import coefficients, float64


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
    """Yields the state at times[1], times[2], ...; the predicted x_0 where sigma is 0.

    Args:
        snr: r, the paper's for variance-exploding paths.
        corrections: Langevin steps at each time.
    """
    alpha, sigma, _ = coefficients(path, times)
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
