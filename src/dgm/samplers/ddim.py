"""Denoising diffusion implicit models (DDIM): sampling with an adjustable amount of added noise."""

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
    r"""Combines the predicted x_0 and the predicted noise at each next time.

    .. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon + c z, \qquad
        c = \eta \frac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2}

    With eta = 0 it is a first-order solver of the probability-flow ODE, from noise to data or from data to noise; with
    eta = 1 it equals `ancestral`.

    Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equations 12 and 16.

    Args:
        x: The state at times[0].
        times: (sampling_steps + 1,), decreasing; with eta = 0 they may increase, from data to its code (equation 14).
        noise: Draws a standard normal of x's shape; required for eta > 0, unused in the last step.

    Yields:
        The state at times[1], times[2], ...
    """
    if eta > 0 and noise is None:
        raise BadInput(f"DDIM with eta = {eta} needs a source of noise", "give noise, or eta = 0")
    t, s = float64(times[:-1]), float64(times[1:])
    var_s, var_t = path.sigma(s).square(), path.sigma(t).square()
    added_variance = eta**2 * var_s / var_t * path.transition(s, t)[1]
    x_0_weights, eps_weights = path.alpha(s).tolist(), (var_s - added_variance).clamp_min(0).sqrt().tolist()
    noise_weights, last = added_variance.sqrt().tolist(), len(times) - 2
    for k in range(last + 1):
        x_0, eps, _ = denoise(x, times[k])
        x = x_0_weights[k] * x_0 + eps_weights[k] * eps
        if eta > 0 and noise and k < last:
            x = x + noise_weights[k] * noise()
        yield x
