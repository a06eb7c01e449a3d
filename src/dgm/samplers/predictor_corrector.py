r"""Predictor-corrector sampling: a step of the reverse process, then Langevin steps on the density where it has led to.

.. math:: x \leftarrow x + \epsilon\, s(x, t) + \sqrt{2 \epsilon}\, z, \qquad \epsilon = 2 (r \sigma_t)^2

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, algorithms 1, 4 and 5.
Differs from it: the step size is 2 (r |z| / |s|)² there, with norms over the batch; here both norms are what they are
of noise, sqrt(D) and sqrt(D) / sigma, so that no sample depends on another. The predictor is ancestral sampling (table
1), which is exact for steps of any length where algorithms 2 and 3 linearise it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import float64


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
    t, s = float64(times[:-1]), float64(times[1:])
    of_x_t, of_x_0, std = (part.tolist() for part in path.posterior_coefficients(s, t))
    sigma = path.sigma(s).tolist()
    for k in range(len(times) - 1):
        x = of_x_t[k] * x + of_x_0[k] * denoise(x, times[k]).x_0
        if sigma[k] > 0:
            x = x + std[k] * noise()
            for _ in range(corrections):
                epsilon = 2 * (snr * sigma[k]) ** 2
                x = x - epsilon / sigma[k] * denoise(x, times[k + 1]).eps + math.sqrt(2 * epsilon) * noise()
        yield x
