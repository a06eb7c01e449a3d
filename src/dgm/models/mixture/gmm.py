r"""Mixture of Gaussians, fitted by expectation maximisation or by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.distributions.gaussian_mixture import Gaussians, components_together, rows_together, second_powers
from dgm.models.mixture.base import GaussianModel
from dgm.protocols import Batch, Conditions, ExactLikelihood, Fittable, Imputing, PerExample, Samplable, Trainable
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space

PRESENT = 1e-8  # share of the data below which a component has collapsed
Covariance = Literal["full", "diagonal", "tied", "spherical"]


class GMM(GaussianModel):
    r"""Mixture of Gaussians, exact log-density, and the exact distribution of some dimensions given the others.

    .. math:: \log p(x) = \log \sum_k \pi_k N(x; \mu_k, \Sigma_k)

    Expectation maximisation in passes over the data. E-step: r_ik is proportional to pi_k N(x_i; mu_k, Sigma_k).
    M-step, with N_k = sum_i r_ik: pi_k = N_k / N, mu_k = sum_i r_ik x_i / N_k, Sigma_k = sum_i r_ik x_i x_i^T / N_k -
    mu_k mu_k^T; its diagonal, or that diagonal's mean times I, or of tied covariances the sum over k of N_k Sigma_k /
    N. Without shrinkage no pass lowers the likelihood. Or gradient descent of -log p(x), with pi as a softmax and
    Sigma_k as L_k L_k^T. The density is with respect to Lebesgue measure in the units of the data, in nats.

    Source: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird & Rubin, 1977), section 4.3;
    k-means++ start: Arthur & Vassilvitskii, 2007.
    Differs from them: each covariance is shrunk towards the pooled covariance of all components and has a ridge, so
    that a component with few examples stays regular; a component without mass is reinitialised at the example with the
    lowest density.

    Args:
        space: Continuous. Discrete data is dequantised by `dgm.create`.

    Example:
        >>> model = GMM(Space.continuous((3,)), GMM.Config(components=2, covariance="tied"))
        >>> model.log_prob(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        components: int = setting(20, "Gaussians in the mixture", low=1, high=10_000)
        covariance: Literal["full", "diagonal", "tied", "spherical"] = setting(
            "full", "form of the covariances; tied: one matrix for all"
        )
        fitting: Literal["em", "gradient"] = setting("em", "by passes of expectation maximisation, or by gradient")
        ridge: float = setting(1e-3, "added to every variance of scaled data", low=1e-9)
        shrinkage: float = setting(30.0, "weight of the pooled covariance, in examples", low=0.0)
        tolerance: float = setting(1e-4, "stop when a pass gains less, in nats per example", low=0.0)

    spaces: ClassVar[set[str]] = {"continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 2048}
    likelihood_method = "closed form"

    weights: Tensor
    means: Tensor
    covariances: Tensor
    fitted: Tensor
    last_loss: Tensor
    gain: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__(space, config)
        by = Fittable if config.fitting == "em" else Trainable
        self.capabilities = frozenset({by, Samplable, ExactLikelihood, Imputing})
        k, d = config.components, space.dim
        # initial values without data: centres from N(0, I / 9) and covariances I / 9
        generator = torch.Generator().manual_seed(k * d)
        means = torch.randn(k, d, generator=generator, dtype=torch.float64) / 3
        shape = {"full": (k, d, d), "tied": (1, d, d), "diagonal": (k, d), "spherical": (k, 1)}[config.covariance]
        if config.fitting == "gradient":
            self.logits, self.means = nn.Parameter(torch.zeros(k, dtype=torch.float64)), nn.Parameter(means)
            # of a Cholesky factor, the diagonal is that of its logarithm
            self.raw_roots = nn.Parameter(diagonal(-math.log(3), shape))
            return
        self.register_buffer("weights", torch.full((k,), 1 / k, dtype=torch.float64))
        self.register_buffer("means", means)
        self.register_buffer("covariances", diagonal(1 / 9, shape))
        self.register_buffer("fitted", torch.tensor(False))
        # of the last pass, so that a killed fit stops at the same pass
        self.register_buffer("last_loss", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("gain", torch.tensor(math.inf, dtype=torch.float64))

    @property
    def gaussians(self) -> Gaussians:
        """The components, of scaled points."""
        if self.config.fitting == "em":
            matrices = self.covariances.ndim == 3
            roots = torch.linalg.cholesky(self.covariances) if matrices else self.covariances.sqrt()
            return Gaussians(self.weights.log(), self.means, roots)
        raw = self.raw_roots
        own = raw.tril(-1) + raw.diagonal(dim1=1, dim2=2).exp().diag_embed() if raw.ndim == 3 else raw.exp()
        return Gaussians(self.logits.log_softmax(0), self.means, own)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        log_p = self.gaussians.log_prob(self.scaled(x)) + self.scaling.ladj
        return log_p.to(torch.get_default_dtype())

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """-log p(x), for gradient descent."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        return self.unscaled(self.gaussians.sample(streams(n, seed, self.means.device)))

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
        whole = z.mT.cov(correction=0).reshape(z.shape[1], z.shape[1])[None]
        self.covariances.copy_(self.regular(form(whole, self.config.covariance).expand_as(self.covariances)))
        self.fitted.fill_(True)

    def expect(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
        """N_k, sum_i r_ik x_i, sum_i r_ik x_i x_i^T, the mean negative log-likelihood, the least likely example."""
        gaussians = self.gaussians
        mass, first, second = (torch.zeros_like(v) for v in (self.weights, self.means, self.covariances))
        total, worst, worst_log_p = 0.0, self.means[0], math.inf
        for x, _ in batches:
            z = self.scaled(x)
            powers = second_powers(z, gaussians.roots) if second.ndim == 2 else None
            r, log_p = responsibilities(gaussians.log_joint(z, powers))
            mass += r.sum(0)
            first += r.mT @ z
            if powers is None:
                add_second_moments(second, r, z)
            else:
                second += r.mT @ powers * (powers.shape[1] / z.shape[1])
            total += float(log_p.sum())
            least, where = log_p.min(0)
            if float(least) < worst_log_p:
                worst_log_p, worst = float(least), z[where]
        return mass, first, second, -total / float(mass.sum()) - float(self.scaling.ladj), worst

    def maximise(self, mass: Tensor, first: Tensor, second: Tensor, loss: float, worst: Tensor) -> float:
        share = mass / mass.sum()
        lost = share < PRESENT
        held = mass.clamp_min(torch.finfo(mass.dtype).tiny)
        means = first / held[:, None]
        if self.config.covariance == "tied":
            covariances = (second - (means.mT * mass) @ means) / mass.sum()
        else:
            covariances = self.shrunk(second, means, mass, held, share, lost)
        means[lost], share[lost] = worst, 1 / float(mass.sum())
        self.weights.copy_(share / share.sum())
        self.means.copy_(means)
        self.covariances.copy_(self.regular(covariances))
        return loss

    def shrunk(self, second: Tensor, means: Tensor, mass: Tensor, held: Tensor, share: Tensor, lost: Tensor) -> Tensor:
        """The covariance of each component, moved towards that of all."""
        of_each = [-1] + [1] * (second.ndim - 1)
        outer = means[:, :, None] * means[:, None, :] if second.ndim == 3 else means.square()
        outer = outer.mean(1, keepdim=True) if self.config.covariance == "spherical" else outer
        covariances = second / held.view(of_each) - outer
        pooled = (share.view(of_each) * covariances)[~lost].sum(0)
        trust = (mass / (mass + self.config.shrinkage)).view(of_each)
        covariances = trust * covariances + (1 - trust) * pooled
        covariances[lost] = pooled
        return covariances

    def regular(self, covariances: Tensor) -> Tensor:
        if covariances.ndim == 2:
            return covariances.clamp_min(0) + self.config.ridge
        ridge = self.config.ridge * torch.eye(self.space.dim, dtype=covariances.dtype, device=covariances.device)
        return 0.5 * (covariances + covariances.mT) + ridge


def responsibilities(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """p(k | x) (B, K), in the memory of log p(x, k), and log p(x) (B,); with one exponential for both."""
    most = log_joint.amax(1, keepdim=True)
    r = log_joint.sub_(most).exp_()
    total = r.sum(1, keepdim=True)
    return r.div_(total), (most + total.log())[:, 0]


def diagonal(value: float, shape: tuple[int, ...]) -> Tensor:
    """The value in the diagonal of each of (K, D, D), or everywhere in (K, D); float64."""
    everywhere = torch.full(shape, value, dtype=torch.float64)
    return everywhere if len(shape) == 2 else everywhere.diagonal(dim1=1, dim2=2).diag_embed()


def form(covariances: Tensor, kind: Covariance) -> Tensor:
    """Full covariances (K, D, D) in the form of a kind."""
    if kind in ("full", "tied"):
        return covariances
    variances = covariances.diagonal(dim1=1, dim2=2)
    return variances if kind == "diagonal" else variances.mean(1, keepdim=True)


def add_second_moments(second: Tensor, r: Tensor, z: Tensor) -> None:
    """Adds sum_i r_ik x_i x_i^T of each component (K, D, D), or of all together (1, D, D)."""
    if len(second) < r.shape[1]:
        second += z.mT @ z
        return
    rows = rows_together(*second.shape[:2])
    for points, weights in zip(z.split(rows), r.split(rows), strict=True):
        for k in components_together(*second.shape[:2]):
            weighted = (weights[:, k, None] * points[:, None]).flatten(1)
            second[k] += (points.mT @ weighted).unflatten(1, (len(k), -1)).transpose(0, 1)
