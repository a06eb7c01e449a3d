"""Denoising diffusion implicit sampling: from noise to data with as little noise added as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dgm.processes.gaussian import GaussianPath


def ddim(
    predict_x_0: Callable[[Tensor, Tensor], Tensor],
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

    With eta = 0 it solves the probability-flow ODE to first order; with eta = 1 it is `ancestral`.

    Source: Denoising Diffusion Implicit Models (Song et al., 2020), arXiv:2010.02502, equations 12 and 16.

    Args:
        predict_x_0: Of a state (n, ...) and its time, a scalar.
        x: State at times[0].
        times: (steps + 1,), falling.
        noise: Gives a standard normal of x's shape; needed where eta > 0, and not asked in the last step.

    Yields:
        The state at times[1], times[2], ...
    """
    last = len(times) - 2
    for step, (t, s) in enumerate(pairwise(times)):
        x_0 = predict_x_0(x, t)
        eps = (x - path.alpha(t) * x_0) / path.sigma(t)
        var_s, var_t = path.sigma(s).square(), path.sigma(t).square()
        added = eta**2 * var_s / var_t * path.transition(s, t)[1]
        x = path.alpha(s) * x_0 + (var_s - added).clamp_min(0).sqrt() * eps
        if eta > 0 and noise is not None and step != last:
            x = x + torch.sqrt(added) * noise()
        yield x
