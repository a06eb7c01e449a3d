r"""Output distributions: the distribution of one dimension, given the outputs of a network, for every kind of space.

Each has ``outputs``, the number of parameters of a dimension, ``log_prob(outputs, x)``, in nats for each dimension, and
``sample(outputs, u)``, a deterministic function of two uniform numbers for each dimension. Those of ordered values have
``moments(outputs)``, the mean and the variance of scaled x, differentiable functions of the outputs. Outputs are
(B, *shape, outputs), x is (B, *shape), u is (B, *shape, 2) in [0, 1). For a single dimension ``dim``, as in sampling of
an autoregressive model, outputs are (B, outputs) and u is (B, 2).
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from dgm.distributions.scaling import Scaling
from dgm.seeds import categorical
from dgm.space import Space

LOG_SCALES = (-7.0, 7.0)  # bounds of all log-scales for scaled data: beyond them float32 loses a cell or overflows


def to_float32(outputs: Tensor) -> Tensor:
    """Casts half precision to float32: with eight bits a sum of many logarithms has an error of half a nat."""
    return outputs.float() if outputs.itemsize < 4 else outputs


def mixture(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log pi, mu and the bounded log s of M components, from 3 M outputs: M logits, M locations, M log-scales."""
    logits, mu, log_s = to_float32(outputs).chunk(3, -1)
    return logits.log_softmax(-1), mu, log_s.clamp(*LOG_SCALES)


def component(outputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """mu and s of one component of the mixture, drawn by its weight."""
    log_pi, mu, log_s = mixture(outputs)
    drawn = categorical(log_pi, u[..., 0])[..., None]
    return mu.gather(-1, drawn)[..., 0], log_s.gather(-1, drawn)[..., 0].exp()


def mixture_moments(log_pi: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the variance of a mixture, from those of its components, (..., M)."""
    pi = log_pi.exp()
    mean = (pi * means).sum(-1)
    return mean, (pi * (variances + means.square())).sum(-1) - mean.square()


@runtime_checkable
class OutputDistribution(Protocol):
    outputs: int

    def __call__(self, outputs: Tensor) -> Tensor: ...  # the mean or the most likely value

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor: ...

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor: ...

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor: ...


class Bernoulli(nn.Module):
    """A Bernoulli distribution of x in {0, 1}, by one logit."""

    outputs = 1

    def fit(self, x: Tensor) -> Tensor:
        """Outputs (D, 1) of independent dimensions like those of a batch (B, D), which gets one more zero and one."""
        return ((x.sum(0) + 1) / (len(x) + 2)).logit()[:, None]

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        logit = to_float32(outputs).squeeze(-1)
        return logsigmoid((2 * x.to(logit.dtype) - 1) * logit)

    def forward(self, outputs: Tensor) -> Tensor:
        return (outputs[..., 0] > 0).to(torch.uint8)

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        p = outputs[..., 0].sigmoid()
        return 2 * p - 1, 4 * p * (1 - p)

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        return (u[..., 0] < outputs[..., 0].sigmoid()).to(torch.uint8)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """The outputs of the normalised P(x)^(1/T)."""
        return outputs / temperature


class Categorical(nn.Module):
    """A categorical distribution of x in {0 … K - 1}, by K logits."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.outputs = space.values or 0

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        log_p, x = to_float32(outputs).log_softmax(-1), x.long()[..., None]
        shape = torch.broadcast_shapes(log_p.shape[:-1], x.shape[:-1])
        return log_p.expand(*shape, -1).gather(-1, x.expand(*shape, 1))[..., 0]

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(-1).to(self.space.dtype)

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Of ordered values; the moments of categories have no meaning."""
        p, values = outputs.softmax(-1), torch.linspace(-1, 1, self.outputs).to(outputs)
        mean = p @ values
        return mean, p @ values.square() - mean.square()

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        return categorical(outputs, u[..., 0]).to(self.space.dtype)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """The outputs of the normalised P(x)^(1/T)."""
        return outputs / temperature


class DiscretisedLogistics(nn.Module):
    r"""A mixture of discretised logistic distributions for ordered grey levels.

    .. math:: P(x) = \sum_m \pi_m [F((x + \tfrac12 - \mu_m)/s_m) - F((x - \tfrac12 - \mu_m)/s_m)]

    F is the logistic sigmoid; the first and the last cell extend to infinity. The levels are scaled to [-1, 1].

    Source: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, equation 2; with one component, arXiv:1606.04934.
    Outputs: M logits, M means, M log-scales.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.space, self.components = space, components
        self.outputs = 3 * components
        self.scaling = Scaling(space)
        self.half_cell = 0.5 / float(self.scaling.scale)

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        return (mixture(outputs)[0] + self.log_components(outputs, x)).logsumexp(-1)

    def log_components(self, outputs: Tensor, x: Tensor) -> Tensor:
        """log P_m(x) of each component, (B, *shape, M)."""
        _, mu, log_s = mixture(outputs)
        z = self.scaling(x)[..., None]
        upper, lower = (z + self.half_cell - mu) / log_s.exp(), (z - self.half_cell - mu) / log_s.exp()
        # log(F(a) - F(b)) = log F(a) + log F(-b) + log(1 - e^(b - a)) is accurate in both tails, and the width a - b of
        # the cell needs no subtraction
        width = 2 * self.half_cell / log_s.exp()
        below, above = logsigmoid(upper), logsigmoid(-lower)
        inner = below + above + torch.log(-torch.expm1(-width))
        first, last = (x == 0)[..., None], (x == (self.space.values or 0) - 1)[..., None]
        return torch.where(first, below, torch.where(last, above, inner))

    def forward(self, outputs: Tensor) -> Tensor:
        log_pi, mu, _ = mixture(outputs)
        return self.scaling.inverse((log_pi.exp() * mu).sum(-1))

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Of logistics between the first and the last level, without rounding, where values outside are moved to them.

        With a = (1 + mu) / s and b = (1 - mu) / s a component has the mean -1 + s (softplus(a) - softplus(-b)). Its
        variance is that of a linear function, pi² s² / 3 times the square of the mean's derivative with respect to mu,
        which is too small by up to a factor of about 2 where mu is near the first or the last level.
        """
        log_pi, mu, log_s = mixture(outputs)
        s = log_s.exp()
        a, b = (1 + mu) / s, (1 - mu) / s
        mean = s * (softplus(a) - softplus(-b)) - 1
        return mixture_moments(log_pi, mean, math.pi**2 / 3 * (s * (a.sigmoid() - (-b).sigmoid())).square())

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        mu, s = component(outputs, u)
        return self.scaling.inverse(mu + s * u[..., 1].clamp(1e-6, 1 - 1e-6).logit(), dim)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """Mixture weights to the power 1 / T and scales times T, which has the tails of P(x)^(1/T)."""
        logits, mu, log_s = outputs.chunk(3, -1)
        return torch.cat([logits / temperature, mu, log_s.clamp(*LOG_SCALES) + math.log(temperature)], -1)


class Gaussians(nn.Module):
    """A mixture of normal distributions of scaled real numbers; the density includes the log-determinant of the
    scaling.

    Outputs: M logits, M means, M log standard deviations.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.components = components
        self.outputs = 3 * components
        self.scaling = Scaling(space)

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        log_pi, mu, log_s = mixture(outputs)
        normal = torch.distributions.Normal(mu, log_s.exp(), validate_args=False)
        mixed = (log_pi + normal.log_prob(self.scaling(x, dim)[..., None])).logsumexp(-1)
        return mixed - self.scaling.at(dim)[1].log()

    def forward(self, outputs: Tensor) -> Tensor:
        return self.scaling.inverse(self.moments(outputs)[0])

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        log_pi, mu, log_s = mixture(outputs)
        return mixture_moments(log_pi, mu, (2 * log_s).exp())

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        mu, s = component(outputs, u)
        return self.scaling.inverse(mu + s * torch.special.ndtri(u[..., 1].clamp(1e-7, 1 - 1e-7)), dim)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """The outputs of the normalised p(x)^(1/T), up to the overlap of the components.

        N(x; mu, s²)^(1/T) is N(x; mu, T s²) times s^(1 - 1/T), up to a constant.
        """
        logits, mu, log_s = outputs.chunk(3, -1)
        log_s = log_s.clamp(*LOG_SCALES)
        weights = logits / temperature + (1 - 1 / temperature) * log_s
        return torch.cat([weights, mu, log_s + 0.5 * math.log(temperature)], -1)


def output_distribution(space: Space, components: int = 1) -> OutputDistribution:
    """The output distribution of a space; ``components`` of the mixtures, 0 for a categorical distribution."""
    if space.kind == "record":
        from dgm.distributions.columns import Columns

        return Columns(space, components)
    if space.kind == "binary":
        return Bernoulli()
    if space.kind in ("tokens", "categories") or (space.discrete and components == 0):
        return Categorical(space)
    return DiscretisedLogistics(space, components) if space.discrete else Gaussians(space, max(components, 1))
