r"""Kernel density estimation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dgm.distributions.gaussian_mixture import squared_distances
from dgm.distributions.scaling import Scaling
from dgm.protocols import Batch, Conditions, ExactLikelihood, Fittable, Imputing, PerExample, Samplable
from dgm.seeds import Seed, Streams, categorical, streams
from dgm.settings import setting
from dgm.space import Space

BLOCK = 2048  # training points whose distances are computed together
TOGETHER = 1 << 22  # numbers of an intermediate result
ROWS = 2000  # training points that the bandwidth is validated on
FACTORS = torch.logspace(-2, 0.5, 26, dtype=torch.float64)  # of Scott's bandwidth, which are compared


class KDE(nn.Module):
    r"""Kernel density estimate, exact log-density.

    .. math:: p(x) = \frac{1}{N h^D} \sum_i K(\|x - x_i\| / h)

    The kernels have spherical symmetry: Gaussian; Epanechnikov, proportional to 1 - r^2 in the unit ball; tophat,
    uniform in it. Bandwidths h are of scaled data. With n points Scott's is n^(-1 / (D + 4)), Silverman's
    (n (D + 2) / 4)^(-1 / (D + 4)), and "cv" maximises the leave-one-out likelihood of 2,000 points among all. Every
    pair of points is evaluated, in blocks, in float64. The density is with respect to Lebesgue measure in the units of
    the data, in nats.

    Source: Density Estimation for Statistics and Data Analysis (Silverman, 1986), equations 4.1, 4.4 and 4.14, and
    section 3.4.4, likelihood cross-validation; Multivariate Density Estimation (Scott, 1992), section 6.3.
    Differs from them: both rules without a standard deviation, since the data is scaled, as in scikit-learn.

    Args:
        space: Continuous. Discrete data is dequantised by `dgm.create`.

    Example:
        >>> KDE(Space.continuous((2,)), KDE.Config(bandwidth=0.5)).log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        kernel: Literal["gaussian", "epanechnikov", "tophat"] = setting("gaussian", "form of the kernel")
        bandwidth: float | Literal["scott", "silverman", "cv"] = setting(
            "cv", "of scaled data: a number, a rule, or cv, by leave-one-out likelihood", low=1e-9
        )

    spaces: ClassVar[set[str]] = {"continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 1024}
    likelihood_method = "closed form"

    points: Tensor
    h: Tensor
    fitted: Tensor

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.scaling = Scaling(space)
        # the sections of other kernels than the Gaussian one are no kernels of their form
        closed = {Imputing} if config.kernel == "gaussian" else set()
        self.capabilities = frozenset({Fittable, Samplable, ExactLikelihood} | closed)
        # before the fit: a few points about the centre
        generator = torch.Generator().manual_seed(space.dim)
        self.register_buffer("points", torch.randn(8, space.dim, generator=generator, dtype=torch.float64) / 3)
        h = config.bandwidth if isinstance(config.bandwidth, float) else 0.5
        self.register_buffer("h", torch.tensor(h, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_load_state_dict_pre_hook(with_as_many_points)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        log_p = self.log_density(self.scaled(x), self.h[None])[0] + self.scaling.ladj
        return log_p.to(torch.get_default_dtype())

    def log_density(self, z: Tensor, h: Tensor, without: Tensor | None = None) -> Tensor:
        """The log-densities (H, B) of scaled points under each of H bandwidths.

        Args:
            without: The number of a training point for each of z, which is left out.
        """
        total = z.new_full((len(h), len(z)), -math.inf)
        for start in range(0, len(self.points), BLOCK):
            squares = squared_distances(z, self.points[start : start + BLOCK])
            if without is not None:
                mine = (without >= start) & (without < start + BLOCK)
                squares[mine.nonzero()[:, 0], without[mine] - start] = math.inf
            for k, width in enumerate(h):
                total[k] = torch.logaddexp(total[k], self.log_kernel(squares / width**2).logsumexp(1))
        count = len(self.points) - (without is not None)
        return total - self.log_volume - math.log(count) - self.space.dim * h.log()[:, None]

    def log_kernel(self, squares: Tensor) -> Tensor:
        """log K of r^2, up to its constant."""
        match self.config.kernel:
            case "gaussian":
                return -0.5 * squares
            case "epanechnikov":
                return torch.log1p(-squares.clamp_max(1))
            case _:
                return torch.where(squares < 1, 0.0, -math.inf)

    @property
    def log_volume(self) -> float:
        """The logarithm of the integral of `log_kernel`'s exponential over R^D."""
        d = self.space.dim
        if self.config.kernel == "gaussian":
            return 0.5 * d * math.log(2 * math.pi)
        ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
        return ball + (math.log(2 / (d + 2)) if self.config.kernel == "epanechnikov" else 0.0)

    def scaled(self, x: Batch) -> Tensor:
        return self.scaling(x).flatten(1).double()

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, self.points.device)
        chosen = (noise.uniform((1,))[:, 0].double() * len(self.points)).long()
        z = self.points[chosen] + self.h * self.kernel_noise(noise)
        return self.scaling.inverse(z.to(torch.get_default_dtype()).unflatten(1, self.space.shape))

    @torch.no_grad()
    def impute(self, x: Batch, observed: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """A training point, drawn by its kernel's density of the observed values, with its kernel's noise in others."""
        noise, found = streams(len(x), seed, self.points.device), []
        u, eps = noise.uniform(()), noise.normal((self.space.dim,)).double()
        for rows, log_kernels in self.observed_kernels(x, observed):
            found.append(self.points[categorical(log_kernels, u[rows])] + self.h * eps[rows])
        drawn = self.scaling.inverse(torch.cat(found).to(torch.get_default_dtype()).unflatten(1, self.space.shape))
        return torch.where(observed, x, drawn)

    def log_prob_observed(self, x: Batch, observed: Tensor, y: Conditions | None = None) -> PerExample:
        kernels = torch.cat([log_kernels.logsumexp(1) for _, log_kernels in self.observed_kernels(x, observed)])
        constant = math.log(len(self.points)) + observed.flatten(1).sum(1) * (
            0.5 * math.log(2 * math.pi) + self.h.log()
        )
        return (kernels - constant + self.scaling.ladj_of(observed)).to(torch.get_default_dtype())

    def observed_kernels(self, x: Batch, observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """-1/2 of the squared distances of the observed values to each training point, in bandwidths, of some rows."""
        z, mask = self.scaled(x), observed.flatten(1)
        for rows in torch.arange(len(z)).split(max(1, TOGETHER // self.points.numel())):
            off = torch.where(mask[rows, None], z[rows, None] - self.points, 0.0)
            yield rows, -0.5 * off.square().sum(2) / self.h**2

    def kernel_noise(self, noise: Streams) -> Tensor:
        """Draws of the kernel, (n, D). Epanechnikov's is the projection of the uniform distribution in the ball of two
        dimensions more, whose section at radius r is a disc of area pi (1 - r^2).
        """
        d = self.space.dim
        if self.config.kernel == "gaussian":
            return noise.normal((d,)).double()
        of_ball = d + 2 if self.config.kernel == "epanechnikov" else d
        direction = nn.functional.normalize(noise.normal((of_ball,)).double(), dim=1)
        return (direction * noise.uniform((1,)).double() ** (1 / of_ball))[:, :d]

    # -- fit

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """Keeps the points and chooses the bandwidth in one pass; yields the loss of at most 2,000 of the points."""
        if self.fitted:
            return
        self.points = torch.cat([self.scaled(x) for x, _ in batches])
        rows = torch.linspace(0, len(self.points) - 1, min(ROWS, len(self.points)), dtype=torch.float64).long()
        rows = rows.to(self.points.device)
        self.h.fill_(self.bandwidth(rows))
        self.fitted.fill_(True)
        parts = [self.log_density(self.points[part], self.h[None])[0] for part in rows.split(256)]
        yield float(-torch.cat(parts).mean() - self.scaling.ladj)

    def bandwidth(self, rows: Tensor) -> float:
        n, d, rule = len(self.points), self.space.dim, self.config.bandwidth
        if isinstance(rule, float):
            return rule
        scott = n ** (-1 / (d + 4))
        if rule != "cv" or n < 2:
            return (n * (d + 2) / 4) ** (-1 / (d + 4)) if rule == "silverman" else scott
        h = scott * FACTORS.to(self.points.device)
        parts = [self.log_density(self.points[part], h, part).mean(1) * len(part) for part in rows.split(256)]
        return float(h[torch.stack(parts).sum(0).argmax()])


def with_as_many_points(model: Any, weights: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Makes room for as many points as the weights have."""
    if f"{prefix}points" in weights:
        model.points = model.points.new_empty(weights[f"{prefix}points"].shape)
