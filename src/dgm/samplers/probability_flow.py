r"""The probability-flow ODE, whose solutions have the path's marginals, by a Runge-Kutta method.

.. math:: \frac{dx_t}{dt} = \dot\alpha_t \hat x_0(x_t, t) + \dot\sigma_t \hat\epsilon(x_t, t)

A last step to sigma = 0 goes to x_0 as predicted. That step is Euler's on x / alpha as a function of sigma / alpha, as
in arXiv:2206.00364, algorithm 1: at sigma = 0 most networks know nothing, and the velocity of many paths is infinite.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equation 13, in the letters
of Flow Matching (Lipman et al., 2022), arXiv:2210.02747.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise, predict
from dgm.samplers.ode import Field, Solver, integrate, integrate_adaptive


def velocity(denoise: Denoise, path: GaussianPath) -> Field:
    return lambda x, t: predict("velocity", path, denoise(x, t), t)


def probability_flow(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    *,
    method: Solver = "heun",
) -> Iterator[Tensor]:
    """Yields the state at times[1], times[2], ..."""
    last = _last(path, times)
    for x in integrate(velocity(denoise, path), x, times[: last + 1], method):
        yield x
    if last < len(times) - 1:
        yield path.alpha(times[-1]) * denoise(x, times[last]).x_0


def adaptive(
    denoise: Denoise,
    path: GaussianPath,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Iterator[Tensor]:
    """By steps of Dormand and Prince as long as the tolerance allows: of the times only the ends count.

    Yields:
        Every state on the way from times[0] to times[-2], however many, and x_0.
    """
    last = _last(path, times)
    for x in integrate_adaptive(velocity(denoise, path), x, times[0], times[last], rtol, atol):
        yield x
    if last < len(times) - 1:
        yield path.alpha(times[-1]) * denoise(x, times[last]).x_0


def _last(path: GaussianPath, times: Tensor) -> int:
    """The index of the last time at which there is noise."""
    return len(times) - 2 if path.sigma(times[-1]) == 0 else len(times) - 1
