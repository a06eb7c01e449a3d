r"""UniPC: the ODE over lambda = log(alpha / sigma), a polynomial predictor and corrector.

With h the step from t to s, nodes at :math:`\lambda_m = \lambda_t + r_m h` and
:math:`D_m = \hat x_0(x_m) - \hat x_0(x_t)`,

.. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) \hat x_0(x_t) + \alpha_s \sum_m w_m D_m, \qquad
    \sum_m w_m r_m^k = \int_0^1 h e^{-(1 - \tau) h} \tau^k d\tau \quad (k = 1, 2, \ldots)

The predictor of order p has nodes at the p - 1 times before t. The corrector repeats the step with the prediction at s
as an additional node, r = 1, which increases the order without a further evaluation. With a single node,
:math:`w = (1 - e^{-h}) / 2r`.

Lambda may be infinite at both ends: a node at -infinity is left out, and the step to sigma = 0 gives the predicted x_0.

Source: UniPC (Zhao et al., 2023), arXiv:2302.04867, algorithms 1 and 2 for the prediction of data, with
:math:`B_2(h) = e^{-h} - 1`; w_m is their :math:`-a_m B(h) / r_m`, from which B drops out with two nodes or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise
from dgm.samplers.times import coefficients


def unipc(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    *,
    order: int = 2,
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ... by the predictor of ``order`` 1, 2 or 3."""
    if order not in (1, 2, 3):
        raise BadInput(f"the order of UniPC must be 1, 2 or 3, got {order}", "choose one of them")
    alpha, sigma, half_log_snr = coefficients(path, times)
    earlier: list[tuple[float, Tensor]] = []  # lambda and predicted x_0 of earlier times, the latest first
    correct = None
    for k, t in enumerate(times[:-1]):
        x_0 = denoise(x, t).x_0
        if correct:
            x = correct(x_0)
        earlier = [(half_log_snr[k], x_0), *earlier][:order]
        h = half_log_snr[k + 1] - half_log_snr[k]
        nodes = [((at - half_log_snr[k]) / h, x_0_there) for at, x_0_there in earlier[1:] if math.isfinite(at + h)]
        this_step = partial(step, x, sigma[k + 1] / sigma[k], alpha[k + 1], h, x_0, nodes)
        x, correct = this_step(), this_step
        yield x


def step(
    x: Tensor,
    scale: float,
    alpha: float,
    h: float,
    x_0: Tensor,
    nodes: Sequence[tuple[float, Tensor]],
    x_0_ahead: Tensor | None = None,
) -> Tensor:
    """x_s, where ``scale`` is sigma_s / sigma_t, ``alpha`` alpha_s, and a node is r and its predicted x_0."""
    nodes = nodes if x_0_ahead is None else [*nodes, (1.0, x_0_ahead)]
    w = weights(h, [r for r, _ in nodes])
    x = scale * x - alpha * (math.expm1(-h) + sum(w)) * x_0
    for weight, (_, x_0_there) in zip(w, nodes, strict=True):
        x = torch.add(x, x_0_there, alpha=alpha * weight)
    return x


def weights(h: float, r: Sequence[float]) -> list[float]:
    """The weights w; the integrals follow by recursion from integration by parts."""
    if len(r) < 2:
        return [-math.expm1(-h) / (2 * node) for node in r]
    integrals = [-math.expm1(-h)]
    for k in range(1, len(r) + 1):
        integrals.append(1 - k / h * integrals[-1])
    powers = torch.tensor([[node**k for node in r] for k in range(1, len(r) + 1)], dtype=torch.float64)
    solution: list[float] = torch.linalg.solve(powers, torch.tensor(integrals[1:], dtype=torch.float64)).tolist()
    return solution
