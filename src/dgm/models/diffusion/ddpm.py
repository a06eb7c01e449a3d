r"""Denoising diffusion, a lower bound on the likelihood.

.. math:: \log p(x_0) \ge E_q \Big[ \log p(x_0 | x_1) - \sum_{i=2}^T KL(q(x_{i-1} | x_i, x_0) \| p(x_{i-1} | x_i))
    - KL(q(x_T | x_0) \| N(0, I)) \Big]

The loss is the unweighted one, :math:`\| \epsilon - \hat\epsilon(x_t, t) \|^2 / D`, which gives better samples; the
bound is there to measure. Probability of a discrete x, density of a continuous one with respect to Lebesgue measure, in
nats.

Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, equations 5, 8, 13 and 14.
Differs from it: step i of T is at t = i / T of a continuous schedule, so that T may be any and fewer steps may be
sampled; T is 100, because a first step whose noise is below the data's own rounding costs the bound more than it gives;
x_0 as predicted is clamped to the data's range; a smaller U-Net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.distributions import discretised_normal
from dgm.distributions.scaling import Scaling
from dgm.networks.denoiser import Denoiser
from dgm.networks.embeddings import check_labels, sampled_labels
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVP
from dgm.processes.parameterisation import endpoints
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers.ancestral import ancestral
from dgm.samplers.ddim import ddim
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

PATHS: dict[str, Callable[[], GaussianPath]] = {"linear": LinearVP, "cosine": CosineVP}


class DDPM(nn.Module):
    """Predicts the noise in x_t.

    Example:
        >>> model = DDPM(Space.levels((1, 8, 8), 17), DDPM.Config())
        >>> model.loss(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3,
        "warmup": 50,
        "clip": 1.0,
        "ema": 0.995,
        "batch": 128,
    }
    likelihood_method = "variational bound, one step drawn of T"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        steps: int = setting(100, "T, steps of the bound", low=2)
        schedule: Literal["linear", "cosine"] = setting("cosine", "how fast noise comes in")
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        variance: Literal["forward", "posterior"] = setting("forward", "of each step back, the larger or the smaller")
        sampler: Literal["ddim", "ancestral"] = setting("ddim", "without noise in its steps, or with")
        sampling_steps: int = setting(50, "steps of the sampler; the bound is that of T", low=1)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        self.path = PATHS[config.schedule]()
        self.network = Denoiser(space.shape, width=config.width, classes=config.classes)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        """||eps - eps_theta(x_t, t)||² / D, 1 for an untrained network (equation 14)."""
        x_0, y = self.scaling(x), check_labels(y, self.config.classes)
        i, eps = torch.randint(1, self.config.steps + 1, (len(x),), device=x.device), torch.randn_like(x_0)
        t = i / self.config.steps
        return (self.network(self.path.corrupt(x_0, eps, t), t, y) - eps).square().flatten(1).mean(1)

    def elbo(self, x: Batch, y: Labels | None = None) -> PerExample:
        """The bound with one step i drawn in place of the sum over T - 1 (equation 5)."""
        x_0, y = self.scaling(x), check_labels(y, self.config.classes)
        probability = self.step_probabilities().to(x.device)
        i = torch.searchsorted(probability.cumsum(0), stratified(len(x), x.device).double(), right=True)
        i = i.clamp_max(self.config.steps)  # rounding can leave the last of the cumulative sums below 1
        transitions = self.transition_kl(x_0, i, y) / probability[i].to(x_0)
        return self.reconstruction(x, x_0, y) - transitions - self.prior_kl(x_0) + self.scaling.ladj

    def step_probabilities(self) -> Tensor:
        """(T + 1,) float64, how often `elbo` draws each i: in proportion to L_{i-1} of x_0 ~ N(0, I)."""
        i = torch.arange(2, self.config.steps + 1)
        rho, snr_s, snr_t = self._step(i)
        weights = torch.cat([rho.new_zeros(2), rho * (snr_s - snr_t) / (1 + snr_t)])
        return weights / weights.sum()

    def prior_kl(self, x_0: Tensor) -> PerExample:
        """L_T = KL(q(x_T | x_0) || N(0, I))."""
        mean, std = self.path.marginal(x_0, x_0.new_ones(()))
        return (mean.square() + std.square() - 1 - 2 * std.log()).flatten(1).sum(1) / 2

    def transition_kl(self, x_0: Tensor, i: Tensor, y: Labels | None) -> PerExample:
        r"""L_{i-1}, one draw of x_i, with rho the ratio of q's variance to p's and D dimensions (equation 8).

        .. math:: \tfrac{D}{2} (\rho - 1 - \log \rho) + \tfrac{\rho}{2} (SNR_s - SNR_t) \|x_0 - \hat x_0\|^2
        """
        rho, snr_s, snr_t = self._step(i)
        t = (i / self.config.steps).to(x_0)
        x_t = self.path.corrupt(x_0, torch.randn_like(x_0), t)
        squares = (x_0 - self._predict_x_0(x_t, t, y)).square().flatten(1).sum(1)
        return (self.space.dim * (rho - 1 - rho.log()) + rho * (snr_s - snr_t) * squares).to(x_0) / 2

    def _step(self, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rho, SNR_s and SNR_t of step i, from s = (i - 1) / T to t = i / T, in float64."""
        s, t = (i - 1).double() / self.config.steps, i.double() / self.config.steps
        rho = (self.path.sigma(s) / self.path.sigma(t)).square()
        return rho if self.config.variance == "forward" else torch.ones_like(rho), self.path.snr(s), self.path.snr(t)

    def reconstruction(self, x: Batch, x_0: Tensor, y: Labels | None) -> PerExample:
        """-L_0 = log p(x_0 | x_1), one draw of x_1: a normal about x̂_0, over cells if x is discrete (equation 13)."""
        t = x_0.new_full((len(x_0),), 1 / self.config.steps)
        x_1 = self.path.corrupt(x_0, torch.randn_like(x_0), t)
        mean, std = self._predict_x_0(x_1, t, y), self.path.sigma(t[0])
        if self.space.discrete:
            nats = discretised_normal.log_prob(x, mean, std, self.space.values or 0).to(x_0)
        else:
            nats = torch.distributions.Normal(mean, std, validate_args=False).log_prob(x_0)
        return nats.flatten(1).sum(1)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        *_, last = self.trajectory(n, y, seed=seed)
        return last.x

    @torch.no_grad()
    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        draw = streams(n, seed, self.scaling.loc.device)
        y = sampled_labels(y, self.config.classes, draw)

        def noise() -> Tensor:
            return draw.normal(self.space.shape).to(self.scaling.loc)

        def predict_x_0(x_t: Tensor, t: Tensor) -> Tensor:
            return self._predict_x_0(x_t, t.expand(n), y)

        steps = self.config.sampling_steps
        times = torch.linspace(1, 0, steps + 1).to(self.scaling.loc)
        if self.config.sampler == "ddim":
            states = ddim(predict_x_0, self.path, noise(), times)
        else:
            states = ancestral(predict_x_0, self.path, noise(), times, noise, variance=self.config.variance)
        for step, x in enumerate(states, 1):
            yield State(self.scaling.inverse(x), step, steps)

    def _predict_x_0(self, x_t: Tensor, t: Tensor, y: Labels | None) -> Tensor:
        x_0 = endpoints("eps", self.path, self.network(x_t, t, y), x_t, t).x_0
        return x_0.clamp(-1, 1) if self.space.discrete or self.space.bounds else x_0


def stratified(n: int, device: torch.device) -> Tensor:
    """n numbers, each uniform on [0, 1) and together evenly spread (arXiv:2107.00630, appendix I.1)."""
    return (torch.rand((), device=device) + torch.arange(n, device=device) / n) % 1
