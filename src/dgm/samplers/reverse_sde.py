r"""The reverse-time SDE of a path, by the method of Euler and Maruyama.

.. math:: dx = [f x - g^2 \nabla \log p_t(x)]\, dt + g\, d\bar w, \qquad
    x_s = x_t - (t - s) (f x_t - g^2 s(x_t)) + g \sqrt{t - s}\, z

A step from alpha = 0, where f and g are infinite and x_t is pure noise, draws from :math:`q(x_s | \hat x_0)`; the step
to sigma = 0 gives the predicted x_0.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equation 6; f and g² are
`GaussianPath.rates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import coefficients, float64


def euler_maruyama(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ..."""
    alpha, sigma, _ = coefficients(path, times)
    f, g2 = (rate.tolist() for rate in path.rates(float64(times)))
    strides = (-float64(times).diff()).tolist()
    for k, (t, h) in enumerate(zip(times[:-1], strides, strict=True)):
        x_0, eps, _ = denoise(x, t)
        if sigma[k + 1] == 0:
            x = alpha[k + 1] * x_0
        elif alpha[k] == 0:
            x = alpha[k + 1] * x_0 + sigma[k + 1] * noise()
        else:
            x = (1 - h * f[k]) * x - h * g2[k] / sigma[k] * eps + math.sqrt(h * g2[k]) * noise()
        yield x
