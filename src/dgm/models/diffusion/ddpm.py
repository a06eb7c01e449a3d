r"""Denoising diffusion, a lower bound on the likelihood.

.. math:: \log p(x_0) \ge E_q \Big[ \log p(x_0 | x_1) - \sum_{i=2}^T KL(q(x_{i-1} | x_i, x_0) \| p(x_{i-1} | x_i))
    - KL(q(x_T | x_0) \| N(0, I)) \Big]

The loss is unweighted, :math:`\| \epsilon - \hat\epsilon(x_t, t) \|^2 / D`, which gives better samples; the bound is
used for evaluation, and to learn the variances. Probability of a discrete x, density of a continuous one
with respect to Lebesgue measure, in nats.

Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, equations 5, 8, 13 and 14; learnt
variances, Improved DDPM (Nichol & Dhariwal, 2021), arXiv:2102.09672, equations 15 and 16. Differs from it: step i of T
is at t = i / T of a continuous schedule, so that any T and fewer sampling steps are possible; T is 100, since a first
step with less noise than the rounding of the data makes the bound worse; the predicted x_0 is clamped to the range of
the data in samples and in the bound; a smaller U-Net.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dgm.distributions import discretised_normal
from dgm.models.gaussian_denoiser import GaussianDenoiser
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP, over
from dgm.processes.parameterisation import Prediction, prediction
from dgm.protocols import Batch, Conditions, PartlyHidden, PerExample
from dgm.samplers import flow_density
from dgm.samplers.diffusion import SamplerConfig
from dgm.seeds import stratified
from dgm.settings import setting
from dgm.space import Space

PATHS: dict[str, Callable[[], GaussianPath]] = {"linear": LinearVP, "cosine": CosineVP}
HYBRID = 1e-3  # weight of the bound in the hybrid loss of learnt variances


class DDPM(GaussianDenoiser):
    """Predicts the noise in x_t, and optionally the variance of each reverse step.

    Example:
        >>> model = DDPM(Space.levels((1, 8, 8), 17), DDPM.Config())
        >>> model.loss(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """

    likelihood_method = "variational bound, one step drawn of T"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        timesteps: int = setting(100, "T, diffusion steps of the bound", low=2, high=100_000)
        schedule: Literal["linear", "cosine"] = setting("cosine", "noise schedule")
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        variance: Literal["forward", "posterior", "learnt"] = setting(
            "forward", "of the reverse steps: the larger, the smaller, or learnt between the two"
        )
        sampler: Literal["ddim", "ancestral"] = setting("ddim", "deterministic (ddim) or stochastic (ancestral)")
        sampling_steps: int = setting(50, "sampling steps; the bound always has T", low=1, high=100_000)
        condition_dropout: float = setting(
            0.1, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.path, self.t_min = PATHS[config.schedule](), 1 / config.timesteps
        outputs = space.shape[0] * (2 if config.variance == "learnt" else 1)
        self.network = self.denoiser(outputs=outputs)
        options = {} if config.sampler == "ddim" or config.variance == "learnt" else {"variance": config.variance}
        self.sampler = SamplerConfig(
            solver=config.sampler, sampling_steps=config.sampling_steps, clamp=True, options=options
        )
        self.estimate_method = flow_density.method(self)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """||eps - eps_theta(x_t, t)||² / D, 1 if untrained (equation 14), plus the bound for learnt variances."""
        x_0, given = self.scaling(x), self.partly_hidden(y)
        i, eps = torch.randint(1, self.config.timesteps + 1, (len(x),), device=x.device), torch.randn_like(x_0)
        t = (i / self.config.timesteps).to(x_0)
        x_t = self.path.corrupt(x_0, eps, t)
        predicted = self.predict(x_t, t, given)
        loss = (predicted.eps - eps).square().flatten(1).mean(1)
        if predicted.variance is None:
            return loss
        # the gradient of eps is that of the unweighted loss alone
        fixed = predicted._replace(x_0=self.clamped(predicted.x_0).detach())
        step = self.step_kl(x_0, x_t, i.clamp_min(2), fixed)  # at i = 1 the KL term is unused and has no gradient
        bound = torch.where(i > 1, step, self.decoder_nats(x, x_0, fixed))
        return loss + HYBRID * self.config.timesteps * bound / self.space.dim

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        out = self.network(x_t, t, y)
        if self.config.variance != "learnt":
            return prediction("eps", self.path, out, x_t, t)
        eps, v = out.chunk(2, 1)
        return prediction("eps", self.path, eps, x_t, t)._replace(variance=(v + 1) / 2)

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The bound with one random step i in place of the sum over T - 1 steps (equation 5)."""
        reconstruction, transitions, prior = self.terms(x, y)
        return reconstruction - transitions - prior + self.scaling.ladj

    def terms(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, PerExample, PerExample]:
        """Unbiased estimates of -L_0 and of L_1 + ... + L_{T-1}, and L_T, for x in the units of the network."""
        x_0, y = self.scaling(x), self.checked(y)
        probability = self.step_probabilities().to(x.device)
        i = torch.searchsorted(probability.cumsum(0), stratified(len(x), x.device).double(), right=True)
        i = i.clamp_max(self.config.timesteps)  # rounding errors can leave the last cumulative sum below 1
        transitions = self.transition_kl(x_0, i, y) / probability[i].to(x_0)
        return self.reconstruction(x, x_0, y), transitions, self.prior_kl(x_0)

    def step_probabilities(self) -> Tensor:
        """(T + 1,) float64, the probability of each i in `elbo`, in proportion to L_{i-1} for x_0 ~ N(0, I)."""
        i = torch.arange(2, self.config.timesteps + 1)
        rho, snr_s, snr_t = self._step(i)
        if self.config.variance != "forward":
            rho = torch.ones_like(rho)
        weights = torch.cat([rho.new_zeros(2), rho * (snr_s - snr_t) / (1 + snr_t)])
        return weights / weights.sum()

    def prior_kl(self, x_0: Tensor) -> PerExample:
        """L_T = KL(q(x_T | x_0) || N(0, I))."""
        mean, std = self.path.marginal(x_0, x_0.new_ones(()))
        return (mean.square() + std.square() - 1 - 2 * std.log()).flatten(1).sum(1) / 2

    def transition_kl(self, x_0: Tensor, i: Tensor, y: Conditions | None) -> PerExample:
        """L_{i-1}, one draw of x_i (equation 8)."""
        t = (i / self.config.timesteps).to(x_0)
        x_t = self.path.corrupt(x_0, torch.randn_like(x_0), t)
        predicted = self.predict(x_t, t, y)
        return self.step_kl(x_0, x_t, i, predicted._replace(x_0=self.clamped(predicted.x_0)))

    def step_kl(self, x_0: Tensor, x_t: Tensor, i: Tensor, predicted: Prediction) -> PerExample:
        r"""KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i)), with rho the ratio of q's variance to p's, by dimension.

        .. math:: \tfrac12 (\rho - 1 - \log \rho) + \tfrac{\rho}{2} (SNR_s - SNR_t) (x_0 - \hat x_0)^2
        """
        forward, snr_s, snr_t = (over(part, x_0) for part in self._step(i))
        rho = self.ratio(forward, predicted.variance)
        squares = (x_0 - predicted.x_0).square()
        kl = rho - 1 - rho.log() + rho * (snr_s - snr_t) * squares
        return kl.expand_as(x_0).flatten(1).sum(1).to(x_0) / 2

    def ratio(self, forward: Tensor, v: Tensor | None) -> Tensor:
        """rho, given that of the forward variance: 1 for the posterior variance, interpolated if learnt."""
        if v is not None:
            return forward**v
        return forward if self.config.variance == "forward" else torch.ones_like(forward)

    def _step(self, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rho of the forward variance, SNR_s and SNR_t of step i, from s = (i - 1) / T to t = i / T, in float64."""
        s, t = (i - 1).double() / self.config.timesteps, i.double() / self.config.timesteps
        rho = (self.path.sigma(s) / self.path.sigma(t)).square()
        return rho, self.path.snr(s), self.path.snr(t)

    def reconstruction(self, x: Batch, x_0: Tensor, y: Conditions | None) -> PerExample:
        """-L_0 = log p(x_0 | x_1), one draw of x_1."""
        t = x_0.new_full((len(x_0),), 1 / self.config.timesteps)
        predicted = self.predict(self.path.corrupt(x_0, torch.randn_like(x_0), t), t, y)
        return -self.decoder_nats(x, x_0, predicted._replace(x_0=self.clamped(predicted.x_0)))

    def decoder_nats(self, x: Batch, x_0: Tensor, predicted: Prediction) -> PerExample:
        """L_0: a normal about x̂_0 with the noise of x_1, over cells where x is discrete (equation 13)."""
        std = self.path.sigma(torch.tensor(1 / self.config.timesteps).to(x_0))
        if self.space.discrete:
            nats = discretised_normal.log_prob(x, predicted.x_0, std, self.space.values or 0).to(x_0)
        else:
            nats = torch.distributions.Normal(predicted.x_0, std, validate_args=False).log_prob(x_0)
        return -nats.flatten(1).sum(1)

    def clamped(self, x_0: Tensor) -> Tensor:
        return x_0.clamp(-1, 1) if self.space.discrete or self.space.bounds else x_0
