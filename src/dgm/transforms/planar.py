r"""Planar and radial maps: x moves along one direction, or from and to one point."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.transforms.transform import Mapped, Transform

ITERATIONS = 100  # at most, of bisection and Newton's method for one number; ten are usual
UNIT = math.log(math.e - 1)  # whose softplus is 1
ROUNDING = 4  # units in the last place within which the number is found


class Parametrised(Transform):
    """A map of the flattened x with one vector of parameters, to which a linear function of the condition is added.

    Args:
        start: The initial parameters, (outputs,).
        width: Width of the embedded condition; 0 without a condition.
    """

    def __init__(self, start: Tensor, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(start)
        self.of_condition = nn.Linear(width, len(start), bias=False) if width else None
        if self.of_condition is not None:
            nn.init.zeros_(self.of_condition.weight)

    def parameters_of(self, c: Tensor | None) -> Tensor:
        """(B, outputs), or (1, outputs) without a condition."""
        return self.own[None] if self.of_condition is None else self.own + self.of_condition(c)

    @abstractmethod
    def map(self, x: Tensor, parameters: Tensor) -> Mapped: ...

    @abstractmethod
    def inverse_map(self, z: Tensor, parameters: Tensor) -> Tensor: ...

    def forward(self, x: Tensor, c: Tensor | None = None) -> Mapped:
        z, ladj = self.map(x.flatten(1), self.parameters_of(c))
        return z.view_as(x), ladj

    def inverse(self, z: Tensor, c: Tensor | None = None) -> Mapped:
        parameters = self.parameters_of(c)
        x = self.inverse_map(z.flatten(1), parameters)
        return x.view_as(z), -self.map(x, parameters)[1]


class Planar(Parametrised):
    r"""z = x + u tanh(w^T x + b).

    .. math:: \log |\det \partial z / \partial x| = \log (1 + w^T u \tanh'(w^T x + b))

    It is invertible where w^T u > -1, so u is a parameter v moved along w until
    w^T u = softplus(w^T v + log(e - 1)) - 1.
    At first v and u are 0, and the map is the identity. The inverse solves s + w^T u tanh(s) = w^T z + b for
    s = w^T x + b, one number.

    Source: Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), arXiv:1505.05770, equations 10-12,
    appendix A.1. Differs from it: log(e - 1), without which no u is 0; the inverse, by Newton's method within a
    bracket, to the rounding of s.
    """

    def __init__(self, dim: int, width: int = 0) -> None:
        super().__init__(torch.cat([torch.randn(dim), torch.zeros(dim), torch.randn(1)]), width)
        self.dim = dim

    def direction(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, u (B, D), b and w^T u (B,), with w^T u > -1."""
        w, u, b = parameters.split((self.dim, self.dim, 1), 1)
        k = (w * u).sum(1)
        allowed = softplus(k + UNIT) - 1
        u = u + ((allowed - k) / w.square().sum(1).clamp_min(torch.finfo(w.dtype).tiny))[:, None] * w
        return w, u, b[:, 0], allowed

    def map(self, x: Tensor, parameters: Tensor) -> Mapped:
        w, u, b, k = self.direction(parameters)
        h = torch.tanh((x * w).sum(1) + b)
        return x + u * h[:, None], torch.log1p(k * (1 - h.square()))

    def inverse_map(self, z: Tensor, parameters: Tensor) -> Tensor:
        w, u, b, k = self.direction(parameters)
        s = planar_root((z * w).sum(1) + b, k.expand(len(z)))
        return z - u * torch.tanh(s)[:, None]


class Radial(Parametrised):
    r"""z = x + beta (x - x_0) / (alpha + r), where r = \|x - x_0\|.

    .. math:: \log |\det \partial z / \partial x| = (D - 1) \log \Big( 1 + \frac{\beta}{\alpha + r} \Big)
        + \log \Big( 1 + \frac{\alpha \beta}{(\alpha + r)^2} \Big)

    It is invertible where beta > -alpha, so beta = -alpha + softplus(a parameter), and alpha = softplus(another); at
    first alpha is 1 and beta 0. The distance r solves r² + (alpha + beta - r') r - alpha r' = 0, where
    r' = \|z - x_0\|.

    Source: Variational Inference with Normalizing Flows (Rezende & Mohamed, 2015), arXiv:1505.05770, equation 14,
    appendix A.2. Differs from it: the inverse, in closed form.
    """

    def __init__(self, dim: int, width: int = 0) -> None:
        super().__init__(torch.cat([torch.randn(dim), torch.full((2,), UNIT)]), width)
        self.dim = dim

    def shape(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_0 (B, D), alpha and beta (B, 1)."""
        x_0, alpha, beta = parameters.split((self.dim, 1, 1), 1)
        alpha = softplus(alpha)
        return x_0, alpha, softplus(beta) - alpha

    def map(self, x: Tensor, parameters: Tensor) -> Mapped:
        x_0, alpha, beta = self.shape(parameters)
        away = x - x_0
        r = away.norm(dim=1, keepdim=True)
        h = beta / (alpha + r)
        ladj = (self.dim - 1) * torch.log1p(h) + torch.log1p(alpha * h / (alpha + r))
        return x + h * away, ladj[:, 0]

    def inverse_map(self, z: Tensor, parameters: Tensor) -> Tensor:
        x_0, alpha, beta = self.shape(parameters)
        away = z - x_0
        r_z = away.norm(dim=1, keepdim=True)
        p, q = (alpha + beta - r_z) / 2, alpha * r_z
        root = (p.square() + q).sqrt()
        # of the two forms of the positive root, the one without a difference of near numbers
        r = torch.where(p > 0, q / (root + p.clamp_min(0) + torch.finfo(z.dtype).tiny), root - p)
        return x_0 + away / (1 + beta / (alpha + r))


def planar_root(a: Tensor, k: Tensor) -> Tensor:
    """The s, (B,), of s + k tanh(s) = a with k > -1, with the derivatives of the implicit function.

    Newton's method within a bracket of the root, which is halved where a step leaves it, or where the step before did
    not halve the error: without that the iteration may circle.
    """
    with torch.no_grad():
        low, high, last = a - k.abs(), a + k.abs(), torch.full_like(a, math.inf)
        s = a - k * torch.tanh(a)
        for _ in range(ITERATIONS):
            error = s + k * torch.tanh(s) - a
            low, high = torch.where(error < 0, s, low), torch.where(error < 0, high, s)
            step = s - error / slope(s, k)
            converges = (step > low) & (step < high) & (error.abs() <= last / 2)
            step, last = torch.where(converges | (error == 0), step, (low + high) / 2), error.abs()
            near = (step - s).abs() <= ROUNDING * torch.finfo(s.dtype).eps * (1 + s.abs())
            s = step
            if near.all():
                break
    # a last step with gradients: its derivative is that of the root, since the error is 0
    return s - (s + k * torch.tanh(s) - a) / slope(s, k).detach()


def slope(s: Tensor, k: Tensor) -> Tensor:
    """d/ds of s + k tanh(s)."""
    return 1 + k * (1 - torch.tanh(s).square())
