r"""Probabilistic principal component analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dgm.distributions.gaussian_mixture import Gaussians
from dgm.models.mixture.base import GaussianModel
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

LEAST = 1e-9  # noise variance of scaled data, which is 0 where the data lies in a subspace


class PPCA(GaussianModel):
    r"""Probabilistic principal component analysis, exact log-density.

    .. math:: x = W z + \mu + \epsilon, \quad z \sim N(0, I_q), \quad \epsilon \sim N(0, \sigma^2 I_D), \qquad
        p(x) = N(x; \mu, W W^T + \sigma^2 I)

    Maximum likelihood in closed form, from the eigenvalues of the covariance S of the data, or by expectation
    maximisation, of which no pass lowers the likelihood. The density is with respect to Lebesgue measure in the units
    of the data, in nats.

    Source: Probabilistic Principal Component Analysis (Tipping & Bishop, 1999), equations 5, 7 and 8 (closed form) and
    29 and 30 (expectation maximisation).
    Differs from it: at most D - 1 components are used, and the noise variance is at least 1e-9 of scaled data.

    Args:
        space: Continuous. Discrete data is dequantised by `dgm.create`.

    Example:
        >>> PPCA(Space.continuous((5,)), PPCA.Config(latent=2)).log_prob(torch.zeros(3, 5)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(16, "principal components, q, at most one less than the dimensions", low=1, high=100_000)
        fitting: Literal["closed_form", "em"] = setting("closed_form", "by eigenvalues, or by passes of EM")
        tolerance: float = setting(1e-6, "stop EM when a pass gains less, in nats per example", low=0.0)

    spaces: ClassVar[set[str]] = {"continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 1024}
    likelihood_method = "closed form"

    mean: Tensor
    W: Tensor
    variance: Tensor
    passes: Tensor
    last_loss: Tensor
    gain: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config)
        d, q = space.dim, min(config.latent, space.dim - 1)
        start = torch.randn(d, q, generator=torch.Generator().manual_seed(d * q), dtype=torch.float64)
        number = lambda value: torch.tensor(value, dtype=torch.float64)  # noqa: E731
        self.register_buffer("mean", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("W", start / (3 * math.sqrt(max(q, 1))))
        self.register_buffer("variance", number(1 / 9))
        self.register_buffer("passes", torch.tensor(0))
        # of the last pass, so that a killed fit stops at the same pass
        self.register_buffer("last_loss", number(math.inf))
        self.register_buffer("gain", number(math.inf))

    @property
    def inner(self) -> Tensor:
        """M = W^T W + sigma^2 I, (q, q)."""
        q = self.W.shape[1]
        return self.W.mT @ self.W + self.variance * torch.eye(q, dtype=self.W.dtype, device=self.W.device)

    @property
    def log_det(self) -> Tensor:
        """log det C = log det M + (D - q) log sigma^2."""
        d, q = self.W.shape
        return torch.logdet(self.inner) + (d - q) * self.variance.log()

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """C^-1 = (I - W M^-1 W^T) / sigma^2."""
        centred = self.scaled(x) - self.mean
        projected = centred @ self.W
        explained = (torch.linalg.solve(self.inner, projected.mT).mT * projected).sum(1)
        squares = (centred.square().sum(1) - explained) / self.variance
        log_p = -0.5 * (self.space.dim * math.log(2 * math.pi) + self.log_det + squares) + self.scaling.ladj
        return log_p.to(torch.get_default_dtype())

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise, (d, q) = streams(n, seed, self.W.device), self.W.shape
        z, eps = noise.normal((d + q,)).double().split([q, d], 1)
        return self.unscaled(self.mean + z @ self.W.mT + self.variance.sqrt() * eps)

    @property
    def gaussians(self) -> Gaussians:
        """N(mean, W W^T + sigma^2 I), of scaled points."""
        eye = torch.eye(self.space.dim, dtype=self.W.dtype, device=self.W.device)
        covariance = self.W @ self.W.mT + self.variance * eye
        return Gaussians(self.mean.new_zeros(1), self.mean[None], torch.linalg.cholesky(covariance)[None])

    # -- maximum likelihood

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """The closed form in one pass, which yields the loss after it; or passes of EM, each the loss before it."""
        if self.config.fitting == "closed_form" or not self.W.shape[1]:
            if self.passes == 0:
                self.passes += 1
                yield self.solve(batches)
            return
        while self.gain >= self.config.tolerance:
            loss = self.step(batches)
            self.passes += 1
            self.gain.copy_(self.last_loss - loss)
            self.last_loss.fill_(loss)
            yield loss

    def solve(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> float:
        """W = U_q (Lambda_q - sigma^2 I)^(1/2), with sigma^2 the mean of the other eigenvalues (equations 7 and 8)."""
        n, first, second = 0, torch.zeros_like(self.mean), self.mean.new_zeros(len(self.mean), len(self.mean))
        for x, _ in batches:
            z = self.scaled(x)
            n, first, second = n + len(z), first + z.sum(0), second + z.mT @ z
        self.mean.copy_(first / n)
        S = second / n - self.mean.outer(self.mean)
        values, vectors = torch.linalg.eigh(S)
        d, q = self.W.shape
        self.variance.copy_(values[: d - q].mean().clamp_min(LEAST))
        self.W.copy_(vectors[:, d - q :] * (values[d - q :] - self.variance).clamp_min(0).sqrt())
        return self.mean_loss(S.trace(), self.W.mT @ S @ self.W)

    def step(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> float:
        """One pass: S W and the trace of S, then W <- S W (sigma^2 I + M^-1 W^T S W)^-1, and sigma^2 by equation 30."""
        if self.passes == 0:
            sums, sizes = zip(*((self.scaled(x).sum(0), len(x)) for x, _ in batches), strict=True)
            self.mean.copy_(torch.stack(sums).sum(0) / sum(sizes))
        n, trace, SW = 0, self.mean.new_zeros(()), torch.zeros_like(self.W)
        for x, _ in batches:
            centred = self.scaled(x) - self.mean
            n, trace, SW = n + len(x), trace + centred.square().sum(), SW + centred.mT @ (centred @ self.W)
        trace, SW, M = trace / n, SW / n, self.inner
        loss = self.mean_loss(trace, self.W.mT @ SW)
        weighted = torch.linalg.solve(M, self.W.mT @ SW)
        weighted = weighted + self.variance * torch.eye(len(M), dtype=M.dtype, device=M.device)
        W = torch.linalg.solve(weighted.mT, SW.mT).mT
        explained = (SW * torch.linalg.solve(M, W.mT).mT).sum()
        self.variance.copy_(((trace - explained) / len(self.mean)).clamp_min(LEAST))
        self.W.copy_(W)
        return loss

    def mean_loss(self, trace: Tensor, WSW: Tensor) -> float:
        """-log p(x) averaged over data of covariance S, from tr S and W^T S W."""
        squares = (trace - torch.linalg.solve(self.inner, WSW).trace()) / self.variance
        found = 0.5 * (self.space.dim * math.log(2 * math.pi) + self.log_det + squares)
        return float(found - self.scaling.ladj)
