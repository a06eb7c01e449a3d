"""Ancestral sampling: from noise to data by the posterior of a Gaussian path, given the predicted x_0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import float64

Variance: TypeAlias = Literal["posterior", "forward"]


def ancestral(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
    *,
    variance: Variance = "posterior",
) -> Iterator[Tensor]:
    r"""Samples x_s from :math:`q(x_s | x_t, \hat x_0(x_t, t))` step by step; the last step adds no noise.

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, algorithm 2.

    Args:
        x: The state at times[0].
        times: (sampling_steps + 1,), decreasing.
        noise: Draws a standard normal of x's shape.
        variance: One of the two variances of section 3.2: that of the ``posterior`` is optimal for a deterministic x_0,
            that of the ``forward`` transition from s to t for x_0 ~ N(0, I). A learnt variance replaces both.

    Yields:
        The state at times[1], times[2], ...
    """
    t, s = float64(times[:-1]), float64(times[1:])
    x_t_weights, x_0_weights, posterior = (part.tolist() for part in path.posterior_coefficients(s, t))
    forward = path.transition(s, t)[1].sqrt().tolist()
    last = len(times) - 2
    for k in range(last + 1):
        predicted = denoise(x, times[k])
        x = x_t_weights[k] * x + x_0_weights[k] * predicted.x_0
        if k < last:
            std = forward[k] if variance == "forward" else posterior[k]
            if predicted.variance is not None:
                std = posterior[k] ** (1 - predicted.variance) * forward[k] ** predicted.variance
            x = x + std * noise()
        yield x
