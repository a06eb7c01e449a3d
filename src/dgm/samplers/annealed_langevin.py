"""Annealed Langevin dynamics: from noise to data through smaller and smaller perturbations of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.langevin import langevin
from dgm.samplers.times import levels


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
    r"""Langevin steps on the density at each time, their size in proportion to its noise's variance.

    .. math:: x \leftarrow x + \tfrac{\eta}{2} s(x, t) + \sqrt{\eta} z, \qquad \eta = r \sigma_t^2

    Between two times x is scaled as alpha is, unless that is 0; where there is no noise it is x_0 as predicted.

    Source: Generative Modeling by Estimating Gradients of the Data Distribution (Song & Ermon, 2019),
    arXiv:1907.05600, algorithm 1, whose step size is epsilon = r sigma_L²; the last denoising, arXiv:2006.09011,
    appendix B. NCSN's levels are times of a `VarianceExploding` path in equal strides of log sigma.
    Differs from it: alpha may change with t.

    Args:
        x: State at times[0].
        times: (levels + 1,), falling to where there is no noise.
        noise: Gives a standard normal of x's shape.
        langevin_steps: At each level.
        step_size: r, the step over the level's variance.

    Yields:
        The state after each level, the last one denoised.
    """
    alpha, sigma, _ = levels(path, times)
    for k, t in enumerate(times[:-1]):
        score = partial(_score, denoise, t, sigma[k])
        *_, x = langevin(score, x, steps=langevin_steps, step_size=step_size * sigma[k] ** 2, noise=noise)
        if sigma[k + 1] == 0:
            x = alpha[k + 1] * denoise(x, t).x_0
        elif alpha[k] > 0:
            x = alpha[k + 1] / alpha[k] * x
        yield x


def _score(denoise: Denoise, t: Tensor, sigma: float, x: Tensor) -> Tensor:
    return denoise(x, t).eps / -sigma
