r"""Mixture of Gaussians, fitted by expectation maximisation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.scaling import Scaling
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

PRESENT = 1e-8  # share of the data below which a component has collapsed


class GMM(nn.Module):
    r"""Mixture of Gaussians with full covariances, exact log-density.

    .. math:: \log p(x) = \log \sum_k \pi_k N(x; \mu_k, \Sigma_k)

    Expectation maximisation in passes over the data. E-step: r_ik is proportional to pi_k N(x_i; mu_k, Sigma_k).
    M-step, with N_k = sum_i r_ik: pi_k = N_k / N, mu_k = sum_i r_ik x_i / N_k, Sigma_k = sum_i r_ik x_i x_i^T / N_k -
    mu_k mu_k^T. The density is with respect to Lebesgue measure in the units of the data, in nats.

    Source: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird & Rubin, 1977), section 4.3;
    k-means++ start: Arthur & Vassilvitskii, 2007.
    Differs from them: each covariance is shrunk towards the pooled covariance of all components and has a ridge, so
    that a component with few examples stays regular; a component without mass is reinitialised at the example with the
    lowest density.

    Args:
        space: Continuous. Discrete data is dequantised by `dgm.create`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        components: int = setting(20, "Gaussians in the mixture", low=1, high=10_000)
        ridge: float = setting(1e-3, "added to every variance of scaled data", low=1e-9)
        shrinkage: float = setting(30.0, "weight of the pooled covariance, in examples", low=0.0)
        tolerance: float = setting(1e-4, "stop when a pass gains less, in nats per example", low=0.0)

    spaces: ClassVar[set[str]] = {"continuous"}
    likelihood_method = "closed form"

    weights: Tensor
    means: Tensor
    covariances: Tensor
    fitted: Tensor
    last_loss: Tensor
    gain: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        k, d = config.components, space.dim
        # initial values without data: centres from N(0, I / 9) and unit covariances
        generator = torch.Generator().manual_seed(k * d)
        self.register_buffer("weights", torch.full((k,), 1 / k, dtype=torch.float64))
        self.register_buffer("means", torch.randn(k, d, generator=generator, dtype=torch.float64) / 3)
        wide = torch.zeros(k, d, d, dtype=torch.float64).add_(torch.eye(d, dtype=torch.float64) / 9)
        self.register_buffer("covariances", wide)
        self.register_buffer("fitted", torch.tensor(False))
        # of the last pass, so that a killed fit stops at the same pass
        self.register_buffer("last_loss", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("gain", torch.tensor(math.inf, dtype=torch.float64))

    def log_joint(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; mu_k, Sigma_k) of scaled points (B, D), as (B, K)."""
        factors = torch.linalg.cholesky(self.covariances)
        centred = (z[None] - self.means[:, None]).mT
        white = torch.linalg.solve_triangular(factors, centred, upper=False)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = 0.5 * self.space.dim * math.log(2 * math.pi)
        return self.weights.log() - log_det - constant - 0.5 * white.square().sum(1).mT

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        log_p = self.log_joint(self.scaled(x)).logsumexp(1) + self.scaling.ladj
        return log_p.to(torch.get_default_dtype())

    def scaled(self, x: Batch) -> Tensor:
        return self.scaling(x).flatten(1).double()

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, self.means.device)
        k = noise.categorical(self.weights.log().expand(n, -1))
        factors = torch.linalg.cholesky(self.covariances)[k]
        z = self.means[k] + (factors @ noise.normal((self.space.dim, 1)).double())[..., 0]
        return self.scaling.inverse(z.to(torch.get_default_dtype()).unflatten(1, self.space.shape))

    # -- expectation maximisation

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """Expectation maximisation; each pass yields the mean negative log-likelihood before its M-step."""
        if not self.fitted:
            self.start(batches)
        while self.gain >= self.config.tolerance:
            loss = self.maximise(*self.expect(batches))
            self.gain.copy_(self.last_loss - loss)
            self.last_loss.fill_(loss)
            yield loss

    def start(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """k-means++: each centre an example, drawn in proportion to its squared distance to the centres so far."""
        z = torch.cat([self.scaled(x) for x, _ in batches])
        chosen = [int(torch.randint(len(z), ()))]
        distance = torch.full((len(z),), math.inf, dtype=z.dtype)
        for _ in range(1, self.config.components):
            distance = torch.minimum(distance, (z - z[chosen[-1]]).square().sum(1))
            chosen.append(int(distance.clamp_min(1e-12).multinomial(1)))
        self.means.copy_(z[chosen])
        self.weights.fill_(1 / self.config.components)
        self.covariances.copy_(self.regular(z.mT.cov(correction=0).expand_as(self.covariances)))
        self.fitted.fill_(True)

    def expect(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
        """N_k, sum_i r_ik x_i, sum_i r_ik x_i x_i^T, the mean negative log-likelihood, the least likely example."""
        mass, first, second = (
            torch.zeros_like(self.weights),
            torch.zeros_like(self.means),
            torch.zeros_like(self.covariances),
        )
        total, worst, worst_log_p = 0.0, self.means[0], math.inf
        for x, _ in batches:
            z = self.scaled(x)
            log_joint = self.log_joint(z)
            log_p = log_joint.logsumexp(1)
            r = (log_joint - log_p[:, None]).exp()
            mass += r.sum(0)
            first += r.mT @ z
            # one matrix product for each component, without a tensor (B, D, D)
            second += torch.stack([(z * weight[:, None]).mT @ z for weight in r.mT])
            total += float(log_p.sum())
            if float(log_p.min()) < worst_log_p:
                worst_log_p, worst = float(log_p.min()), z[log_p.argmin()]
        return mass, first, second, -total / float(mass.sum()) - float(self.scaling.ladj), worst

    def maximise(self, mass: Tensor, first: Tensor, second: Tensor, loss: float, worst: Tensor) -> float:
        share = mass / mass.sum()
        lost = share < PRESENT
        held = mass.clamp_min(torch.finfo(mass.dtype).tiny)
        means = first / held[:, None]
        covariances = second / held[:, None, None] - means[:, :, None] * means[:, None, :]
        pooled = (share[:, None, None] * covariances)[~lost].sum(0)
        trust = (mass / (mass + self.config.shrinkage))[:, None, None]
        covariances = trust * covariances + (1 - trust) * pooled
        means[lost], covariances[lost] = worst, pooled
        share[lost] = 1 / float(mass.sum())
        self.weights.copy_(share / share.sum())
        self.means.copy_(means)
        self.covariances.copy_(self.regular(covariances))
        return loss

    def regular(self, covariances: Tensor) -> Tensor:
        ridge = self.config.ridge * torch.eye(self.space.dim, dtype=covariances.dtype, device=covariances.device)
        return 0.5 * (covariances + covariances.mT) + ridge
