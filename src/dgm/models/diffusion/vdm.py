r"""Variational diffusion model: a learnt noise schedule, trained on the bound; a lower bound.

.. math:: -\log p(x) \le KL(q(z_1 | x) \| N(0, I)) + E[-\log P(x | z_0)]
    + \tfrac12 E_{t, \epsilon}\big[\gamma'(t) \| \epsilon - \hat\epsilon(z_t, t) \|^2\big],

the terms of the prior, of reconstruction and of diffusion, :math:`\alpha_t^2 = \operatorname{sigmoid}(-\gamma(t))` and
:math:`\sigma_t^2 = \operatorname{sigmoid}(\gamma(t))`. The bound depends on gamma through its two endpoints alone;
between them gamma affects the variance of the estimate, which it is trained to minimise. Probability of a discrete x,
density of a continuous one with respect to Lebesgue measure, in nats.

Source: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, equations 3, 11-13 and 17, appendices H
(the monotone network), C (Fourier features) and I.2 (less variance).
Differs from it: the frequencies of the Fourier features depend on the number of grey levels; a smaller network; the
gradient of gamma between its endpoints is that of E[L²] divided by the mean of L in the batch, which has the scale of
the bound and the same direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.distributions import discrete_decoder
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import GaussianPath, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.seeds import stratified
from dgm.settings import setting
from dgm.space import Space


class VDM(GaussianDenoiser):
    """Predicts the noise in z_t with a learnt noise schedule.

    Example:
        >>> model = VDM(Space.levels((1, 8, 8), 17), VDM.Config())
        >>> model.elbo(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """

    likelihood_method = "variational bound, one time drawn"
    loss_unit = "nats a dimension"
    t_min = 0.0
    path: LearntVP

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        sampling_steps: int = setting(50, "sampling steps", low=1, high=100_000)
        condition_dropout: float = setting(
            0.0, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.path = LearntVP(first_noise(space))
        self.frequencies = frequencies(space)
        self.network = self.denoiser(inputs=space.shape[0] * (1 + 2 * len(self.frequencies)))
        self.sampler = SamplerConfig(solver="ancestral", sampling_steps=config.sampling_steps)
        self.estimate_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The negative bound, in nats a dimension."""
        prior, reconstruction, diffused = self.terms(x, self.partly_hidden(y))
        return (prior + reconstruction + diffused) / self.space.dim

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        prior, reconstruction, diffused = self.terms(x, self.checked(y))
        return self.scaling.ladj - prior - reconstruction - diffused

    def terms(self, x: Batch, y: Conditions | PartlyHidden | None) -> tuple[PerExample, PerExample, PerExample]:
        """Prior, reconstruction and diffusion: draws of the bound's three parts, in nats (equation 11)."""
        x_0 = self.scaling(x)
        return self.prior(x_0), self.reconstruction(x, x_0), self.diffusion(x_0, y)

    def prior(self, x_0: Tensor) -> PerExample:
        mean, std = self.path.marginal(x_0, x_0.new_ones(()))
        return (mean.square() + std.square() - 1 - 2 * std.log()).flatten(1).sum(1) / 2

    def reconstruction(self, x: Batch, x_0: Tensor) -> PerExample:
        """E[-log P(x | z_0)], by which level z_0 is nearest to, or by the noise of z_0 where x is continuous."""
        t = x_0.new_zeros(())
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        z_0 = alpha * x_0 + sigma * torch.randn_like(x_0)
        if self.space.discrete:
            nats = discrete_decoder.log_prob(x, z_0, alpha, sigma, self.space.values or 0)
        else:
            nats = torch.distributions.Normal(z_0 / alpha, sigma / alpha, validate_args=False).log_prob(x_0)
        return -nats.flatten(1).sum(1)

    def diffusion(self, x_0: Tensor, y: Conditions | PartlyHidden | None) -> PerExample:
        """gamma'(t) ||eps - eps_hat||² / 2 at one t, drawn so that a batch spreads evenly (equation 17)."""
        t, eps = stratified(len(x_0), x_0.device).to(x_0), torch.randn_like(x_0)
        between = self.path.between(t)
        gamma, gamma_dot = self.path.stretched(between)
        alpha, sigma = (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()
        z_t = over(alpha, x_0) * x_0 + over(sigma, x_0) * eps
        nats = gamma_dot / 2 * (eps - self.noise(z_t, gamma, y)).square().flatten(1).sum(1)
        for (
            part
        ) in between:  # d L² / d eta over the mean L, in place of d L / d eta, which is noise about 0 (appendix I.2)
            if part.requires_grad:
                part.register_hook((2 * nats / nats.mean()).detach().mul)
        return nats

    def noise(self, z_t: Tensor, gamma: Tensor, y: Conditions | PartlyHidden | None) -> Tensor:
        """eps_hat, from z_t with its Fourier features and the noise level, (B,), on a scale from 0 to 1."""
        waves = [f(math.pi * 2**n * z_t) for n in self.frequencies for f in (torch.sin, torch.cos)]
        low, high = self.path.ends.detach()
        return self.network(torch.cat([z_t, *waves], 1), (gamma - low) / (high - low), y)

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        return prediction("eps", self.path, self.noise(x_t, self.path.gamma(t), y), x_t, t)


class LearntVP(nn.Module, GaussianPath):
    r"""alpha_t² = sigmoid(-gamma(t)), sigma_t² = sigmoid(gamma(t)), with gamma a monotone network between two ends.

    .. math:: \gamma(t) = \gamma_0 + (\gamma_1 - \gamma_0) \frac{g(t) - g(0)}{g(1) - g(0)}, \qquad
        g(t) = w t + \sum_k v_k \operatorname{sigmoid}(u_k t + b_k), \quad w, u, v > 0

    Source: arXiv:2107.00630, appendix H, whose first layer is folded into the others.
    """

    def __init__(self, first: float, last: float = 5.0, hidden: int = 256) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.tensor([first, last]))
        self.w = nn.Parameter(torch.zeros(()))
        self.u, self.b = nn.Parameter(torch.randn(hidden)), nn.Parameter(torch.randn(hidden))
        self.v = nn.Parameter(torch.full((hidden,), -8.0))  # softplus of it is small: gamma starts as a straight line

    def g(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g and its derivative, of t's shape."""
        w, u, v = softplus(self.w), softplus(self.u), softplus(self.v)
        steps = (t[..., None].to(u) * u + self.b).sigmoid()
        rising = w + (v * u * steps * (1 - steps)).sum(-1)
        return w.to(t) * t + (v * steps).sum(-1).to(t), rising.to(t)  # on t's device, wherever the weights are

    def between(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How far gamma is from its first end to its last, from 0 to 1, and the derivative."""
        (low, _), (high, _), (g, g_dot) = self.g(torch.zeros_like(t)), self.g(torch.ones_like(t)), self.g(t)
        return (g - low) / (high - low), g_dot / (high - low)

    def stretched(self, between: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """gamma and its derivative."""
        share, share_dot = between
        first, last = self.ends.to(share)
        return first + (last - first) * share, (last - first) * share_dot

    def gamma(self, t: Tensor) -> Tensor:
        return self.stretched(self.between(t))[0]

    def alpha(self, t: Tensor) -> Tensor:
        return (-self.gamma(t)).sigmoid().sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return self.gamma(t).sigmoid().sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        gamma, gamma_dot = self.stretched(self.between(t))
        return -gamma_dot / 2 * gamma.sigmoid() * (-gamma).sigmoid().sqrt()

    def sigma_dot(self, t: Tensor) -> Tensor:
        gamma, gamma_dot = self.stretched(self.between(t))
        return gamma_dot / 2 * (-gamma).sigmoid() * gamma.sigmoid().sqrt()


def first_noise(space: Space) -> float:
    """The initial gamma_0: noise of a sixth of the distance of two levels, or of 0.01 for continuous data."""
    sigma = 2 / (space.values - 1) / 6 if space.values else 0.01
    return 2 * math.log(sigma)


def frequencies(space: Space) -> list[int]:
    """n of the features sin(2^n pi z) and cos(2^n pi z): waves as long as one gap between two levels, and two."""
    if not space.values:
        return []
    finest = round(math.log2(space.values))
    return [finest - 1, finest]
