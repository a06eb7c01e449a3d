r"""Gaussian paths from data at t = 0 to noise at t = 1.

.. math:: x_t = \alpha_t x_0 + \sigma_t \epsilon, \qquad \epsilon \sim N(0, I)

A path is defined by its two coefficients and their derivatives in t. DDPM is a variance-preserving
path, NCSN a variance-exploding one and flow matching the straight one.

Source: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, equations 1-4 and appendix A.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """A normal distribution with independent dimensions, by its mean and its standard deviation."""

    mean: Tensor
    std: Tensor


class GaussianPath(ABC):
    """alpha_t and sigma_t for t in [0, 1], with their derivatives. Coefficients have the shape of t."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor: ...

    def snr(self, t: Tensor) -> Tensor:
        """alpha_t² / sigma_t², infinite where sigma_t is 0."""
        return (self.alpha(t) / self.sigma(t)).square()

    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t), decreasing in t."""
        return self.alpha(t).log() - self.sigma(t).log()

    def time_of(self, half_log_snr: Tensor) -> Tensor:
        """The t in [0, 1] with this lambda_t, by bisection in float64; clipped to [0, 1]."""
        low, high = torch.zeros_like(half_log_snr).double(), torch.ones_like(half_log_snr).double()
        for _ in range(60):
            middle = (low + high) / 2
            later = self.half_log_snr(middle) > half_log_snr
            low, high = torch.where(later, middle, low), torch.where(later, high, middle)
        return ((low + high) / 2).to(half_log_snr)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""f and g² of the SDE dx = f x dt + g dw that has these marginals.

        .. math:: f = \frac{d \log \alpha_t}{dt}, \qquad
            g^2 = \frac{d \sigma_t^2}{dt} - 2 f \sigma_t^2 = -2 \sigma_t^2 \frac{d \lambda_t}{dt}

        Source: arXiv:2107.00630, appendix A; for VE, VP and sub-VP arXiv:2011.13456, equation 29.
        """
        f = self.alpha_dot(t) / self.alpha(t)
        sigma = self.sigma(t)
        return f, 2 * sigma * (self.sigma_dot(t) - f * sigma)

    def marginal(self, x_0: Tensor, t: Tensor) -> Gaussian:
        """q(x_t | x_0). ``t`` is (B,) or a scalar."""
        t = over(t, x_0)
        return Gaussian(self.alpha(t) * x_0, self.sigma(t))

    def corrupt(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t from data and noise of the same shape."""
        mean, std = self.marginal(x_0, t)
        return mean + std * eps

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_{t|s} and sigma_{t|s}² of q(x_t | x_s) for s < t."""
        alpha_ts = self.alpha(t) / self.alpha(s)
        var_ts = self.sigma(t).square() - (alpha_ts * self.sigma(s)).square()
        return alpha_ts, var_ts.clamp_min(0)  # rounding errors can make it negative where s is close to t

    def posterior(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Gaussian:
        r"""q(x_s | x_t, x_0) for s < t, by Bayes' rule.

        .. math::
            \mu = \frac{\alpha_{t|s} \sigma_s^2}{\sigma_t^2} x_t + \frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2} x_0,
            \quad \sigma = \sigma_{t|s} \sigma_s / \sigma_t, \quad
            \alpha_{t|s} = \alpha_t / \alpha_s, \quad \sigma_{t|s}^2 = \sigma_t^2 - \alpha_{t|s}^2 \sigma_s^2

        Source: arXiv:2107.00630, equations 24-27; with DDPM's letters arXiv:2006.11239, equations 6 and 7.
        """
        x_t_weight, x_0_weight, std = self.posterior_coefficients(over(s, x_t), over(t, x_t))
        return Gaussian(x_t_weight * x_t + x_0_weight * x_0, std)

    def posterior_coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The coefficients of x_t and x_0 in the mean of `posterior`, and its standard deviation."""
        alpha_ts, var_ts = self.transition(s, t)
        var_s, var_t = self.sigma(s).square(), self.sigma(t).square()
        return alpha_ts * var_s / var_t, self.alpha(s) * var_ts / var_t, (var_ts * var_s / var_t).sqrt()


class VariancePreserving(GaussianPath):
    """alpha_t² + sigma_t² = 1, parameterised by log alpha_t, so that sigma_t is accurate near alpha_t = 1."""

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def log_alpha_dot(self, t: Tensor) -> Tensor: ...

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.log_alpha_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)


class LinearVP(VariancePreserving):
    r"""The variance-preserving path with a linear noise rate beta(t).

    .. math:: \log \alpha_t = -\tfrac14 t^2 (\beta_{max} - \beta_{min}) - \tfrac12 t \beta_{min}

    At t = i / T it is, up to O(1/T), the schedule of arXiv:2006.11239, whose beta_i runs from 0.1 / T to 20 / T.

    Source: Score-Based Generative Modeling through SDEs (Song et al., 2020), arXiv:2011.13456, equation 33.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self.beta_min, self.beta_max = beta_min, beta_max

    def log_alpha(self, t: Tensor) -> Tensor:
        return -t.square() * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def log_alpha_dot(self, t: Tensor) -> Tensor:
        return -(self.beta_min + t * (self.beta_max - self.beta_min)) / 2


class CosineVP(VariancePreserving):
    r"""The cosine schedule, a quarter of a period with an offset at both ends.

    .. math:: \alpha_t = \cos\theta_t / \cos\theta_0, \qquad \theta_t = \frac{\pi}{2} \frac{s + (1 - s) t}{1 + s}

    Source: Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), arXiv:2102.09672, equation 17.
    Differs from it: the angle ends at the same offset from pi / 2 as it starts from 0, where the paper clips beta at
    0.999; both keep alpha_1 above 0.
    """

    def __init__(self, offset: float = 0.008) -> None:
        self.theta_0 = math.pi / 2 * offset / (1 + offset)
        self.theta_dot = math.pi / 2 * (1 - offset) / (1 + offset)

    def log_alpha(self, t: Tensor) -> Tensor:
        # cos(a + b) / cos(a) = 1 - (2 sin²(b/2) + tan(a) sin(b)) is accurate for small b
        b = self.theta_dot * t
        return torch.log1p(-(2 * (b / 2).sin().square() + math.tan(self.theta_0) * b.sin()))

    def log_alpha_dot(self, t: Tensor) -> Tensor:
        return -self.theta_dot * (self.theta_0 + self.theta_dot * t).tan()


class SubVP(LinearVP):
    r"""The sub-VP path: alpha of `LinearVP`, with less noise, whose variance is that of `LinearVP` squared.

    .. math:: \sigma_t = 1 - \alpha_t^2

    Source: arXiv:2011.13456, equation 29, third line.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self.log_alpha(t))

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -2 * self.alpha(t) * self.alpha_dot(t)


class VarianceExploding(GaussianPath):
    r"""The variance-exploding path: data is not scaled, and sigma grows geometrically.

    .. math:: \alpha_t = 1, \qquad \sigma_t = \sigma_{min} (\sigma_{max} / \sigma_{min})^t \text{ for } t > 0,
        \quad \sigma_0 = 0

    Source: arXiv:2011.13456, equation 31, which jumps from 0 to sigma_min at t = 0.
    """

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        self.sigma_min, self.log_ratio = sigma_min, math.log(sigma_max / sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.log_ratio * t).exp() * (t > 0)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.log_ratio * self.sigma(t)


class LinearVE(GaussianPath):
    r"""Data is not scaled, and sigma grows linearly: :math:`\alpha_t = 1` and :math:`\sigma_t = \sigma_{max} t`.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364,
    table 1, whose time is sigma.
    """

    def __init__(self, sigma_max: float) -> None:
        self.sigma_max = sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.sigma_max * torch.ones_like(t)


class Straight(GaussianPath):
    r"""Straight lines between data and noise, :math:`\alpha_t = 1 - t` and :math:`\sigma_t = t`.

    Source: Flow Matching for Generative Modeling (Lipman et al., 2022), arXiv:2210.02747, equation 20 with
    sigma_min = 0 and time reversed.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


def over(t: Tensor, x: Tensor) -> Tensor:
    """``t``, (B,) or a scalar, shaped to multiply a batch ``x`` of shape (B, ...)."""
    return t if t.dim() == 0 else t.reshape(-1, *[1] * (x.dim() - 1))
