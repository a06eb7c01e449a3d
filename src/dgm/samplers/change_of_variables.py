r"""The density of the solution of an ODE, by the instantaneous change of variables.

.. math:: \log p_0(x_0) = \log p_1(x_1) + \int_0^1 \operatorname{tr} \frac{\partial f}{\partial x}(x_t, t)\, dt,
    \qquad \frac{dx_t}{dt} = f(x_t, t)

Source: Neural Ordinary Differential Equations (Chen et al., 2018), arXiv:1806.07366, equation 8; the stochastic trace
is that of FFJORD (Grathwohl et al., 2018), arXiv:1810.01367, equation 7.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgm.samplers.ode import Field, FieldOfRows, Solver, integrate, integrate_each


def integrated_divergence(
    f: FieldOfRows,
    x: Tensor,
    t_first: Tensor,
    t_last: Tensor,
    probe: Tensor | None = None,
    *,
    tolerance: float,
    solver: Solver = "dopri5",
    solver_steps: int | None = None,
    closed_form: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """The state at t_last and the integral of the divergence of f along the solution, (B,).

    Args:
        f: The velocity field as a function of states (b, ...), times (b,) and the indices (b,) of these examples in the
            batch; each example has its own step sizes.
        x: (B, ...), the state at t_first.
        probe: Of x's shape, independent entries of mean 0 and variance 1, the same at all times: the divergence is then
            an unbiased estimate at the cost of one gradient. With None it is exact, at the cost of D gradients.
        tolerance: Relative and absolute tolerance of x and of the integral at each step.
        solver_steps: Number of evenly spaced steps of ``solver``; None for the adaptive steps of dopri5.
        closed_form: f and its divergence, as a function of f's arguments, where no gradient needs to be taken.
    """

    def slope(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        states = state[:, :-1].reshape(-1, *x.shape[1:])
        of_rows = None if probe is None else probe[rows]
        if closed_form is None:
            velocity, divergence = with_divergence(lambda x, t: f(x, t, rows), states, t, of_rows)
        else:
            velocity, divergence = closed_form(states, t, rows)
        return torch.cat([velocity.flatten(1), divergence[:, None]], dim=1)

    start = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], dim=1)
    if solver_steps is None:
        end = integrate_each(slope, start, t_first, t_last, tolerance, tolerance)
    else:
        rows = torch.arange(len(x), device=x.device)
        times = t_first + (t_last - t_first) * torch.linspace(0, 1, solver_steps + 1).to(t_first)
        *_, end = integrate(lambda state, t: slope(state, t.expand(len(x)), rows), start, times, solver)
    return end[:, :-1].reshape(x.shape), end[:, -1]


def with_divergence(f: Field, x: Tensor, t: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """f(x, t) and its divergence in x, (B,), exact or estimated with the probe, without a graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = f(x, t)
        divergence, _ = divergence_and_norm(velocity, x, probe)
    return velocity.detach(), divergence.detach()


def divergence_and_norm(
    velocity: Tensor, x: Tensor, probe: Tensor | None = None, *, graph: bool = False
) -> tuple[Tensor, Tensor]:
    r"""The divergence of a velocity in x, and the squared Frobenius norm of its Jacobian, (B,) each.

    Both are exact, or estimated with the probe, of which e^T J e and \|e^T J\|^2 have their expectations.

    Args:
        graph: Whether they are to be differentiated.
    """
    if probe is not None:
        (row,) = torch.autograd.grad(velocity, x, probe, create_graph=graph)
        return (row * probe).flatten(1).sum(1), row.flatten(1).square().sum(1)
    trace, norm = x.new_zeros(len(x)), x.new_zeros(len(x))
    for d, component in enumerate(velocity.flatten(1).unbind(1)):
        (row,) = torch.autograd.grad(component.sum(), x, retain_graph=True, create_graph=graph)
        trace, norm = trace + row.flatten(1)[:, d], norm + row.flatten(1).square().sum(1)
    return trace, norm
