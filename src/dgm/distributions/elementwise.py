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

MIN_LOG_SCALE = -7.0


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
        logits, mu, log_scale = outputs.chunk(3, -1)
        z = self.scaling(x)[..., None]
        inverse_scale = (-log_scale.clamp_min(MIN_LOG_SCALE)).exp()
        upper, lower = (z + self.half_cell - mu) * inverse_scale, (z - self.half_cell - mu) * inverse_scale
        # log(F(a) - F(b)) = log F(a) + log F(-b) + log(1 - e^(b - a)), which holds its digits in both tails
        inner = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        first, last = (x == 0)[..., None], (x == (self.space.values or 0) - 1)[..., None]
        cell = torch.where(first, logsigmoid(upper), torch.where(last, logsigmoid(-lower), inner))
        return (logits.log_softmax(-1) + cell).logsumexp(-1)

    def forward(self, outputs: Tensor) -> Tensor:
        logits, mu, _ = outputs.chunk(3, -1)
        return self.scaling.inverse((logits.softmax(-1) * mu).sum(-1))

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        logits, mu, log_scale = outputs.chunk(3, -1)
        component = noise.categorical(logits)[..., None]
        mu, log_scale = mu.gather(-1, component)[..., 0], log_scale.gather(-1, component)[..., 0]
        u = noise.uniform(mu.shape[1:]).clamp(1e-6, 1 - 1e-6)
        return self.scaling.inverse(mu + log_scale.clamp_min(MIN_LOG_SCALE).exp() * u.logit())


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
        logits, mu, log_std = outputs.chunk(3, -1)
        log_std = log_std.clamp_min(MIN_LOG_SCALE)
        normal = torch.distributions.Normal(mu, log_std.exp(), validate_args=False)
        mixed = (logits.log_softmax(-1) + normal.log_prob(self.scaling(x)[..., None])).logsumexp(-1)
        return mixed - self.scaling.scale.log()

    def forward(self, outputs: Tensor) -> Tensor:
        logits, mu, _ = outputs.chunk(3, -1)
        return self.scaling.inverse((logits.softmax(-1) * mu).sum(-1))

    def sample(self, outputs: Tensor, noise: Streams) -> Tensor:
        logits, mu, log_std = outputs.chunk(3, -1)
        component = noise.categorical(logits)[..., None]
        mu, log_std = mu.gather(-1, component)[..., 0], log_std.gather(-1, component)[..., 0]
        return self.scaling.inverse(mu + log_std.clamp_min(MIN_LOG_SCALE).exp() * noise.normal(mu.shape[1:]))


def elementwise(space: Space, components: int = 1) -> Elementwise:
    """The distribution that fits a space; ``components`` of the mixtures."""
    if space.kind == "binary":
        return Bernoulli()
    if space.kind == "tokens":
        return Categorical(space)
    return DiscretisedLogistics(space, components) if space.discrete else Gaussians(space, components)
