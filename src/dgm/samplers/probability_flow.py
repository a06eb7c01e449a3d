r"""The probability-flow ODE, whose solutions have the marginals of the path, by a Runge-Kutta method.

.. math:: \frac{dx_t}{dt} = \dot\alpha_t \hat x_0(x_t, t) + \dot\sigma_t \hat\epsilon(x_t, t)

The last step, to sigma = 0, gives the predicted x_0. It is an Euler step of x / alpha as a function of sigma / alpha,
as in arXiv:2206.00364, algorithm 1: most networks are not trained at sigma = 0, where the velocity of many paths
diverges.

Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equation 13, in the letters
of Flow Matching (Lipman et al., 2022), arXiv:2210.02747.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from dgm.processes.gaussian import GaussianPath
from dgm.processes.parameterisation import Denoise, quantity
from dgm.samplers.ode import Field, Solver, integrate, integrate_adaptive


def velocity(denoise: Denoise, path: GaussianPath) -> Field:
    """The velocity of the probability-flow ODE."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        predicted = denoise(x, t)
        return quantity("velocity", path, predicted.x_0, predicted.eps, t)

    return velocity


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
    noisy = _noisy(path, times)
    return _then_x_0(integrate(velocity(denoise, path), x, noisy, method), denoise, path, x, times)


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
    """The Dormand-Prince method with adaptive steps; only the first and the last two times are used.

    Yields:
        Every accepted state from times[0] to times[-2], and the predicted x_0.
    """
    noisy = _noisy(path, times)
    states = integrate_adaptive(velocity(denoise, path), x, noisy[0], noisy[-1], rtol, atol)
    return _then_x_0(states, denoise, path, x, times)


def _noisy(path: GaussianPath, times: Tensor) -> Tensor:
    """The times with noise."""
    return times[:-1] if path.sigma(times[-1]) == 0 else times


def _then_x_0(
    states: Iterator[Tensor], denoise: Denoise, path: GaussianPath, x: Tensor, times: Tensor
) -> Iterator[Tensor]:
    """The states, followed by the predicted x_0 if the last time has no noise."""
    state = x
    for state in states:
        yield state
    if path.sigma(times[-1]) == 0:
        yield path.alpha(times[-1]) * denoise(state, times[-2]).x_0
