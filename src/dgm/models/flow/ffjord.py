r"""Continuous normalizing flow by an ODE (FFJORD)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.models.flow.base import Flow
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.maps import Projection, per_channel
from dgm.protocols import Batch, Conditions, PerExample
from dgm.samplers.change_of_variables import divergence_and_norm, integrated_divergence
from dgm.samplers.ode import FieldOfRows, integrate, integrate_each
from dgm.settings import setting
from dgm.space import Space
from dgm.transforms import Composition, to_real_numbers

EXACT = 16  # numbers up to which the trace is exact by default


class FFJORD(Flow):
    r"""FFJORD: a flow along an ODE, exact log-density in few dimensions and an unbiased estimate in others.

    .. math:: \log p(x) = \log p(z) + \int_0^1 \operatorname{tr} \frac{\partial v}{\partial z}(z_t, t) \, dt, \qquad
        \frac{dz_t}{dt} = v(z_t, t), \quad z_0 = x, \quad z = z_1

    The trace is exact for up to 16 numbers, by forward differentiation in all D dimensions at once; otherwise, and of
    images, it is estimated with one vector of random signs for each solution. Likelihoods, codes and samples are solved
    to ``tolerance`` by the adaptive solver of Dormand and Prince, with steps of its own for each example. Training
    takes ``ode_steps`` steps of the Runge-Kutta method of order four, and differentiates these steps (discretise, then
    optimise); so does any derivative of a code. Density with respect to Lebesgue measure in the units of the data, in
    nats.

    A regularised path costs fewer evaluations: ``kinetic`` and ``jacobian`` weight the integrals, a dimension,

    .. math:: \int_0^1 \|v(z_t, t)\|^2 \, dt, \qquad \int_0^1 \|\partial v / \partial z (z_t, t)\|_F^2 \, dt

    Source: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl et al., 2018),
    arXiv:1810.01367, equations 3-7 and algorithm 1; paths, How to Train Your Neural ODE: the World of Jacobian and
    Kinetic Regularization (Finlay et al., 2020), arXiv:2002.02798, section 3. Differs from the first: gradients of the
    steps in place of the adjoint ODE; images have one scale.

    Args:
        space: Continuous, of any shape.

    Example:
        >>> flow = FFJORD(Space.continuous((2,)), FFJORD.Config(hidden=8))
        >>> flow.log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(64, "width, or channels, of the network", low=1)
        layers: int = setting(3, "hidden layers of the network", low=1, high=100)
        ode_steps: int = setting(4, "solver steps in training", low=1, high=10_000)
        tolerance: float = setting(1e-5, "of the solver in evaluation, absolute and relative", low=1e-12, high=1e-1)
        trace: Literal["auto", "exact", "hutchinson"] = setting("auto", "auto is exact for up to 16 numbers")
        kinetic: float = setting(0.0, "weight of the path's kinetic energy in training", low=0.0)
        jacobian: float = setting(0.0, "weight of the squared norm of the Jacobian in training", low=0.0)
        base: Literal["normal", "mixture", "resampled"] = setting("normal", "distribution of z, see docs/flows.md")

    defaults: ClassVar[dict[str, Any]] = {"batch": 128, "lr": 2e-3, "warmup": 100, "ema": 0.995, "clip": 1.0}
    reparameterised = False

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        image = len(space.shape) == 3
        exact = config.trace == "exact" or (config.trace == "auto" and not image and space.dim <= EXACT)
        super().__init__(space, config, condition, exact=exact)
        self.exact, self.in_closed_form = exact, exact and not image  # the trace
        trace = "exact" if exact else "stochastic"
        self.method = f"ODE to {config.tolerance:g}, {trace} trace"
        self.transform = Composition(to_real_numbers(space))
        self.features = ConditionFeatures(condition, space.shape[1:] if image else None)
        shape = space.shape if image else (space.dim,)
        sizes = [shape[0], *[config.hidden] * config.layers, shape[0]]
        self.velocity = Velocity(sizes, 1 + self.features.width, image=image)

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        c = self.conditioning(y)
        z, ladj = self.transform(x)
        if torch.is_grad_enabled():
            z, of_path, _ = self.path(z, c)
        else:
            z, of_path = self.solved(z, c)
        return z, ladj + of_path

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, ladj = self.transform(x)
        z, of_path, penalty = self.path(z, self.conditioning(y))
        return penalty - self.base.log_prob(z) - ladj - of_path

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        v, (start, end) = self.field(self.conditioning(y)), self.ends(z)
        z = integrate_each(v, z.detach(), end, start, self.config.tolerance, self.config.tolerance)
        return self.transform.inverse(z)[0]

    def field(self, c: Tensor | None) -> FieldOfRows:
        return lambda z, t, rows: self.velocity(z, t, None if c is None else c[rows])

    def ends(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z.new_zeros(()), z.new_ones(())

    def probe(self, z: Tensor) -> Tensor | None:
        return None if self.exact else torch.randint_like(z, 2) * 2 - 1

    def solved(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, PerExample]:
        """z_1 and the integral of the trace, to the tolerance and without gradients."""
        closed_form = partial(self.with_trace, c) if self.in_closed_form else None
        how: dict[str, Any] = {"tolerance": self.config.tolerance, "closed_form": closed_form}
        return integrated_divergence(self.field(c), z, *self.ends(z), self.probe(z), **how)

    def with_trace(self, c: Tensor | None, z: Tensor, t: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        v, divergence, _ = self.velocity.with_trace_and_norm(z, t, None if c is None else c[rows])
        return v, divergence

    def path(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, PerExample, PerExample]:
        """z_1, the integral of the trace and the weighted penalties of the path, by steps that are differentiated."""
        shape, dim, probe = z.shape, z[0].numel(), self.probe(z)

        def slope(state: Tensor, t: Tensor) -> Tensor:
            at, times = state[:, :dim].reshape(shape), t.expand(len(state))
            if self.in_closed_form:
                v, divergence, norm = self.velocity.with_trace_and_norm(at, times, c)
            else:
                with torch.enable_grad():
                    at = at if at.requires_grad else at.requires_grad_()
                    v = self.velocity(at, times, c)
                    divergence, norm = divergence_and_norm(v, at, probe, graph=True)
            kinetic = v.flatten(1).square().sum(1)
            penalty = (self.config.kinetic * kinetic + self.config.jacobian * norm) / dim
            return torch.cat([v.flatten(1), divergence[:, None], penalty[:, None]], 1)

        start = torch.cat([z.flatten(1), z.new_zeros(len(z), 2)], 1)
        times = torch.linspace(0, 1, self.config.ode_steps + 1).to(z)
        *_, end = integrate(slope, start, times, "rk4")
        return end[:, :dim].reshape(shape), end[:, dim], end[:, dim + 1]


class Velocity(nn.Module):
    """v(z, t) of layers that the time and the condition gate and shift, smooth in all of them, and 0 at first.

    Source: arXiv:1810.01367, appendix B.1, the layers that its code calls "concatsquash", with softplus between them.

    Args:
        sizes: Of each layer, or its channels.
        conditions: The number of features of the time and the condition together.
        image: Whether the layers are 3×3 convolutions, in place of linear layers of the flattened z.
    """

    def __init__(self, sizes: Sequence[int], conditions: int, *, image: bool) -> None:
        super().__init__()
        self.image = image
        self.layers, self.gates, self.shifts = (nn.ModuleList() for _ in range(3))
        for before, after in pairwise(sizes):
            self.layers.append(nn.Conv2d(before, after, 3, padding=1) if image else nn.Linear(before, after))
            self.gates.append(Projection(conditions, after))
            self.shifts.append(Projection(conditions, after, bias=False))
        for last in (self.layers[-1], self.shifts[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, z: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """z (B, *shape), times (B,) and features (B, K), or maps of them (B, K, H, W), to z's shape."""
        h = z if self.image else z.flatten(1)
        for k, (layer, gate, shift) in enumerate(self.gated(z, t, c)):
            h = softplus(h) if k else h
            h = layer(h) * per_channel(gate, h) + per_channel(shift, h)
        return h.view_as(z)

    def with_trace_and_norm(
        self, z: Tensor, t: Tensor, c: Tensor | None = None
    ) -> tuple[Tensor, PerExample, PerExample]:
        """v of vectors, the trace of its Jacobian and the squared Frobenius norm of it, by forward differentiation."""
        h = z.flatten(1)
        by_z = torch.eye(h.shape[1]).to(h)  # dh_j / dz_i at (i, j), of each example from the first gate on
        for k, (layer, gate, shift) in enumerate(self.gated(z, t, c)):
            if k:
                by_z, h = by_z * h.sigmoid()[:, None], softplus(h)
            h = layer(h) * gate + shift
            by_z = by_z @ layer.weight.mT * gate[:, None]
        return h.view_as(z), by_z.diagonal(dim1=1, dim2=2).sum(1), by_z.square().sum((1, 2))

    def gated(self, z: Tensor, t: Tensor, c: Tensor | None) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Each layer with its gate and its shift, which are functions of the time and the condition."""
        given = t[:, None].to(z)
        given = given if c is None else torch.cat([per_channel(given, c).expand(-1, -1, *c.shape[2:]), c], 1)
        for layer, gate, shift in zip(self.layers, self.gates, self.shifts, strict=True):
            yield layer, gate(given).sigmoid(), shift(given)
