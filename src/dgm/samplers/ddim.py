"""Denoising diffusion implicit sampling: from noise to data with as little noise added as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.errors import BadInput
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import float64


def ddim(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    *,
    eta: float = 0.0,
) -> Iterator[Tensor]:
    r"""Steps to x_0 as predicted, carried back to the next time with the noise that x_t implies.

    .. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon + c z, \qquad
        c = \eta \frac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2}

    With eta = 0 it solves the probability-flow ODE to first order, from noise to data or from data to noise; with
    eta = 1 it is `ancestral`.

    Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equations 12 and 16.

    Args:
        x: State at times[0].
        times: (steps + 1,), falling; rising for eta = 0 too, from data to their code (equation 14).
        noise: Gives a standard normal of x's shape; needed where eta > 0, and not asked in the last step.

    Yields:
        The state at times[1], times[2], ...
    """
    if eta > 0 and noise is None:
        raise BadInput(f"DDIM with eta = {eta} draws noise and has no source of it", "give noise, or eta = 0")
    t, s = float64(times[:-1]), float64(times[1:])
    var_s, var_t = path.sigma(s).square(), path.sigma(t).square()
    added = eta**2 * var_s / var_t * path.transition(s, t)[1]
    of_x_0, of_eps = path.alpha(s).tolist(), (var_s - added).clamp_min(0).sqrt().tolist()
    of_noise, last = added.sqrt().tolist(), len(times) - 2
    for k in range(last + 1):
        x_0, eps, _ = denoise(x, times[k])
        x = of_x_0[k] * x_0 + of_eps[k] * eps
        if eta > 0 and noise and k < last:
            x = x + of_noise[k] * noise()
        yield x
