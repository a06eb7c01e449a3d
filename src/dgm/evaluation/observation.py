r"""log-densities of a generator's samples with Gaussian noise: estimates for a GAN, which has no p(x) of its own.

.. math:: p_\sigma(x) = E_{p(z)} N(x; G(z), \sigma^2 I)

x is scaled. G(z) has a density on a set of a few dimensions at most, so p_0(x) is 0 or infinite; p_sigma(x) is a
density of another model, whose sigma has the best validation value. Two stochastic lower bounds of it are here. The
mean over samples G(z_i) is a kernel density estimate, which needs exponentially many samples where z has many
dimensions. Annealed importance sampling looks for the z of each x, and on simulated data it bounds from above, too.

Source: A note on the evaluation of generative models (Theis et al., 2016), arXiv:1511.01844, section 3.4, on the first,
and why neither ranks models by their samples; On the quantitative analysis of decoder-based generative models (Wu et
al., 2017), arXiv:1611.04273, sections 2.2 and 4, on the second.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dgm.distributions.gaussian_mixture import squared_distances
from dgm.likelihood import Kind, Likelihood
from dgm.models.gan.base import Implicit
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import marginal_of
from dgm.protocols import Batch, Conditions, PerExample, condition_of
from dgm.seeds import Seed, Streams, streams
from dgm.space import Space

SAMPLES = 10_000  # of the generator, for the kernel density estimate
ROWS = 256  # of examples beside all samples
SIGMAS = torch.logspace(-2, 0.3, 24, dtype=torch.float64)  # of scaled data, which is in [-1, 1] or has a deviation of 1


class Observed(nn.Module):
    """A generator whose samples have Gaussian noise, as a model of scaled real numbers with p(z) and p(x|z).

    Args:
        model: A generator.
        sigma: The standard deviation of the noise.
    """

    def __init__(self, model: Implicit, sigma: float) -> None:
        super().__init__()
        self.model, self.sigma, self.config, self.condition = model, sigma, model.config, model.condition
        self.space = Space.continuous(model.space.shape)

    def prior_code(self, noise: Streams, y: Conditions | None) -> Tensor:
        return noise.normal(self.model.latent_space.shape).to(next(self.model.parameters()))

    def log_prior(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def likelihood(self, x: Batch, z: Tensor, y: Conditions | None = None) -> PerExample:
        """log N(x; G(z), sigma²) in nats about x in the data's own numbers."""
        off = (x - self.model.generated(z, y)).square().flatten(1).sum(1)
        return -0.5 * off / self.sigma**2 + log_constant(self.model, self.sigma)

    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        mean = self.model.generated(z, y)
        return mean + self.sigma * streams(len(z), seed, device_of(self)).normal(self.space.shape).to(mean)


def log_constant(model: Implicit, sigma: float | Tensor) -> Any:
    """The terms of log N(x; m, sigma²) that do not depend on x, with the log-determinant of the scaling.

    Of discrete data it is the density of x with uniform noise, a lower bound of log P(x) in expectation.
    """
    cell = -model.space.dim * torch.log(model.scaling.scale.double()) if model.space.discrete else model.scaling.ladj
    log_sigma = torch.as_tensor(sigma, dtype=torch.float64).log()
    return float(cell) - model.space.dim * (log_sigma + 0.5 * math.log(2 * math.pi))


@torch.no_grad()
def kernel_density(model: Implicit, x: Tensor, sigmas: Tensor, samples: Tensor) -> Tensor:
    """log of the mean over samples of N(x; G(z_i), sigma²), (sigmas, B) float64, of dequantised x."""
    found = []
    for rows in x.flatten(1).split(ROWS):
        squares = squared_distances(rows, samples.flatten(1)).double()
        found.append(torch.stack([(-0.5 * squares / s**2).logsumexp(1) for s in sigmas]))
    constant = log_constant(model, sigmas) - math.log(len(samples))
    return torch.cat(found, 1) + constant[:, None].to(found[0])


def chosen_noise(model: Implicit, x: Tensor, samples: Tensor) -> float:
    """The sigma whose kernel density of x is highest."""
    return float(SIGMAS[kernel_density(model, x, SIGMAS.to(x.device), samples).mean(1).argmax().cpu()])


@torch.no_grad()
def means_of(model: Implicit, n: int, seed: int) -> Tensor:
    """G(z) of n samples, scaled, under conditions drawn from p(y)."""
    with evaluating(model):
        noise = Streams(seed, range(n), device_of(model))
        y = None if condition_of(model) is None else marginal_of(model).draw(noise)
        z = noise.normal(model.latent_space.shape).to(next(model.parameters()))
        parts = torch.arange(n).split(1000)
        return torch.cat([model.generated(z[rows], None if y is None else y[rows]) for rows in parts])


def density_of_samples(model: Implicit, x: Tensor, sigma: float, samples: Tensor) -> Likelihood:
    """The kernel density of the samples at dequantised x."""
    nats = kernel_density(model, x, torch.tensor([sigma], dtype=torch.float64, device=x.device), samples)[0]
    method = f"kernel density of {len(samples):,} samples"
    return Likelihood(nats.cpu(), Kind.LOWER_BOUND, method, model.space.dim)
