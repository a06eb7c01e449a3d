r"""Mixtures of discretised logistic distributions of integers modulo K."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dgm.distributions.output import component, mixture
from dgm.space import Space

SHARE = 0.1  # of the circle: a scale near 1 would start at the uniform distribution, where the gradient is 0
# of a fitted mixture: the smallest scale, in integers, that of the broad component, as a share of the circle, its
# logit, and the quantiles between which the others lie
NARROW, BROAD, RARE, MOST = 0.25, 1 / 32, -1.0, (0.05, 0.95)


class WrappedLogistics(nn.Module):
    r"""A mixture of discretised logistics on a circle of K integers.

    .. math:: P(x) = \sum_m \pi_m \sum_{k=-1}^{1} \frac{F((x + kK + \tfrac12 - \mu_m)/s_m)
        - F((x + kK - \tfrac12 - \mu_m)/s_m)}{F((2K - \tfrac12 - \mu_m)/s_m) - F((-K - \tfrac12 - \mu_m)/s_m)}

    F is the logistic sigmoid. Each logistic is truncated to three periods, so that P sums to 1. As a
    function of a real x it is smooth, and continuous from K - 1 to 0, where the cells at the ends of
    `dgm.distributions.output.DiscretisedLogistics` have derivatives that point away from the mode: a flow that shifts x
    by a rounded number needs them.

    Outputs: M logits, M locations and M log-scales of x scaled to [-1, 1].

    Source: the discretised logistics of Integer Discrete Flows (Hoogeboom et al., 2019), arXiv:1905.07376, section 4.3.
    Differs from it: modulo K.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.values, self.components, self.dtype = space.values or 0, components, space.dtype
        self.outputs = 3 * components

    def located(self, mu: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The location and scale in units of x, of those of [-1, 1]."""
        half = (self.values - 1) / 2
        return (mu + 1) * half, s * half * SHARE

    def fit(self, x: Tensor) -> Tensor:
        """Outputs (D, 3 M) of independent dimensions like those of a batch (B, D).

        A broad component has the moments of the batch, and each other one lies between two quantiles.
        """
        x, half = x.double(), (self.values - 1) / 2
        ends = torch.quantile(x, torch.linspace(*MOST, self.components, dtype=x.dtype, device=x.device), 0).T
        broad = x.std(0, correction=0) * math.sqrt(3) / math.pi
        mu = torch.cat([x.mean(0)[:, None], (ends[:, 1:] + ends[:, :-1]) / 2], 1)
        s = torch.cat(
            [broad[:, None].clamp_min(BROAD * self.values), (torch.diff(ends, dim=1) / 4).clamp_min(NARROW)], 1
        )
        logits = torch.zeros_like(mu)
        logits[:, 0] = RARE
        return torch.cat([logits, mu / half - 1, (s / (half * SHARE)).log()], 1).to(torch.get_default_dtype())

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        log_pi, mu, log_s = mixture(outputs)
        mu, s = self.located(mu, log_s.exp())
        periods = self.values * torch.arange(-1, 2, device=x.device)
        away = x[..., None, None] + periods - mu[..., None]
        inside = log_cell(away - 0.5, away + 0.5, s[..., None]).logsumexp(-1)
        whole = log_cell(-self.values - 0.5 - mu, 2 * self.values - 0.5 - mu, s)
        return (log_pi + inside - whole).logsumexp(-1)

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        mu, s = self.located(*component(outputs, u))
        low, high = (((end - 0.5 - mu) / s).double().sigmoid() for end in (-self.values, 2 * self.values))
        drawn = (low + u[..., 1].double() * (high - low)).clamp(1e-12, 1 - 1e-12)
        return (mu + s * drawn.logit()).round().remainder(self.values).to(self.dtype)


def log_cell(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """log(F(b / s) - F(a / s)) for a < b, accurate in both tails."""
    return logsigmoid(b / s) + logsigmoid(-a / s) + torch.log(-torch.expm1((a - b) / s))
