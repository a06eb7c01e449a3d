"""Annealed Langevin dynamics: from noise to data through a decreasing sequence of noise scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.langevin import langevin
from dgm.samplers.times import coefficients


def annealed_langevin(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor],
    *,
    langevin_steps: int = 5,
    step_size: float = 0.6,
) -> Iterator[Tensor]:
    r"""Langevin steps at each time, with a step size in proportion to the variance of the noise.

    .. math:: x \leftarrow x + \tfrac{\eta}{2} s(x, t) + \sqrt{\eta} z, \qquad \eta = r \sigma_t^2

    Between two times x is scaled by the ratio of the alphas, unless alpha is 0; where sigma is 0, x is the predicted
    x_0.

    Source: Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019),
    arXiv:1907.05600, algorithm 1, whose step size is epsilon = r sigma_L²; the final denoising, arXiv:2006.09011,
    appendix B. The noise scales of NCSN are times of a `VarianceExploding` path, equally spaced in log sigma.
    Differs from it: alpha may change with t.

    Args:
        x: The state at times[0].
        times: (noise scales + 1,), decreasing to a time without noise.
        noise: Draws a standard normal of x's shape.
        langevin_steps: Number of Langevin steps at each noise scale.
        step_size: r, the step size over the variance of the noise scale.

    Yields:
        The state after each noise scale, the last one denoised.
    """
    alpha, sigma, _ = coefficients(path, times)
    for k, t in enumerate(times[:-1]):
        score = partial(_score, denoise, t, sigma[k])
        *_, x = langevin(score, x, langevin_steps=langevin_steps, step_size=step_size * sigma[k] ** 2, noise=noise)
        if sigma[k + 1] == 0:
            x = alpha[k + 1] * denoise(x, t).x_0
        elif alpha[k] > 0:
            x = alpha[k + 1] / alpha[k] * x
        yield x


def _score(denoise: Denoise, t: Tensor, sigma: float, x: Tensor) -> Tensor:
    return denoise(x, t).eps / -sigma
