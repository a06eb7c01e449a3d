r"""Distributions of one dimension given a network's outputs for it, for every kind of space.

Each has ``outputs``, how many numbers a dimension it is given, ``log_prob(outputs, x)``, in nats for each dimension,
and ``sample(outputs, noise)``. Outputs are (B, *shape, outputs), x is (B, *shape) in the data's own numbers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from dgm.distributions.scaling import Scaling
from dgm.seeds import Streams
from dgm.space import Space

LOG_SCALES = (-7.0, 7.0)  # bounds of every scale, on the scaled axis: beyond them float32 loses a cell or overflows


def mixture(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log pi, mu and the bounded log s of M components, from 3 M outputs: M logits, M locations, M log-scales."""
    logits, mu, log_s = outputs.chunk(3, -1)
    return logits.log_softmax(-1), mu, log_s.clamp(*LOG_SCALES)


def component(outputs: Tensor, noise: Streams) -> tuple[Tensor, Tensor]:
    """mu and s of one component of the mixture, drawn by its weight."""
    log_pi, mu, log_s = mixture(outputs)
    drawn = noise.categorical(log_pi)[..., None]
    return mu.gather(-1, drawn)[..., 0], log_s.gather(-1, drawn)[..., 0].exp()


class Elementwise(Protocol):
    outputs: int

    def __call__(self, outputs: Tensor) -> Tensor: ...  # the mean or the most likely value, for a picture

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor: ...

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor: ...


class Bernoulli(nn.Module):
    """x in {0, 1} by one logit."""

    outputs = 1

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        logit = outputs[..., 0]
        return x * logit - softplus(logit)

    def forward(self, outputs: Tensor) -> Tensor:
        return (outputs[..., 0] > 0).to(torch.uint8)

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        return (noise.uniform(outputs.shape[1:-1]) < outputs[..., 0].sigmoid()).to(torch.uint8)


class Categorical(nn.Module):
    """x in {0 … K - 1} by K logits, with no order assumed."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.outputs = space.values or 0

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return outputs.log_softmax(-1).gather(-1, x.long()[..., None])[..., 0]

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(-1).to(self.space.dtype)

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        return noise.categorical(outputs).to(self.space.dtype)


class DiscretisedLogistics(nn.Module):
    r"""Ordered levels by a mixture of logistic distributions, each level the cell around it.

    .. math:: P(x) = \sum_m \pi_m [F((x + \tfrac12 - \mu_m)/s_m) - F((x - \tfrac12 - \mu_m)/s_m)]

    F is the logistic sigmoid; the first and the last cell reach to infinity. On the scale where the levels span [-1,
    1].

    Source: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, equation 2; with one component, arXiv:1606.04934.
    Outputs: M logits, M means, M log-scales.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.space, self.components = space, components
        self.outputs = 3 * components
        self.scaling = Scaling(space)
        self.half_cell = 1 / ((space.values or 2) - 1)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        log_pi, mu, log_s = mixture(outputs)
        z = self.scaling(x)[..., None]
        upper, lower = (z + self.half_cell - mu) / log_s.exp(), (z - self.half_cell - mu) / log_s.exp()
        # log(F(a) - F(b)) = log F(a) + log F(-b) + log(1 - e^(b - a)) holds its digits in both tails, and the cell's
        # width a - b is known without subtracting
        width = 2 * self.half_cell / log_s.exp()
        inner = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        first, last = (x == 0)[..., None], (x == (self.space.values or 0) - 1)[..., None]
        cell = torch.where(first, logsigmoid(upper), torch.where(last, logsigmoid(-lower), inner))
        return (log_pi + cell).logsumexp(-1)

    def forward(self, outputs: Tensor) -> Tensor:
        log_pi, mu, _ = mixture(outputs)
        return self.scaling.inverse((log_pi.exp() * mu).sum(-1))

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        mu, s = component(outputs, noise)
        u = noise.uniform(mu.shape[1:]).clamp(1e-6, 1 - 1e-6)
        return self.scaling.inverse(mu + s * u.logit())


class Gaussians(nn.Module):
    """Real numbers by a mixture of normals, on the space's own scaled axis, its log-determinant paid for.

    Outputs: M logits, M means, M log standard deviations.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.components = components
        self.outputs = 3 * components
        self.scaling = Scaling(space)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        log_pi, mu, log_s = mixture(outputs)
        normal = torch.distributions.Normal(mu, log_s.exp(), validate_args=False)
        mixed = (log_pi + normal.log_prob(self.scaling(x)[..., None])).logsumexp(-1)
        return mixed - self.scaling.scale.log()

    def forward(self, outputs: Tensor) -> Tensor:
        log_pi, mu, _ = mixture(outputs)
        return self.scaling.inverse((log_pi.exp() * mu).sum(-1))

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        mu, s = component(outputs, noise)
        return self.scaling.inverse(mu + s * noise.normal(mu.shape[1:]))


def elementwise(space: Space, components: int = 1) -> Elementwise:
    """The distribution that fits a space; ``components`` of the mixtures."""
    if space.kind == "binary":
        return Bernoulli()
    if space.kind == "tokens":
        return Categorical(space)
    return DiscretisedLogistics(space, components) if space.discrete else Gaussians(space, components)
