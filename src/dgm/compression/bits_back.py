r"""Bits back with asymmetric numeral systems: the codec of a variational autoencoder.

To code x, z is popped from the stack by q(z|x), then x is pushed by p(x|z) and z by p(z). Bits that were on the stack
before choose z and come back on decoding, so the expected net number of bits is that of the bound,

.. math:: E_{q(z|x)}[-\log_2 p(x|z) - \log_2 p(z) + \log_2 q(z|x)]

The stack starts with bits of a fixed seed. The used ones are part of the length, and decoding ends with them.

z is one of 2^12 values in each dimension, the medians of intervals of equal probability under the standard normal
prior, so that log2 p(z) = -12 exactly. q(z|x) is the probability of each interval under the posterior.

A chain of latent variables pops each z_t in the order of inference, then pushes x and the chain by its prior. The
intervals of a level have equal probabilities under a normal distribution with the moments of samples of the model, so
that they depend on no other level. Source: Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with
Hierarchical Latent Variables (Kingma et al., 2019), arXiv:1905.06845, appendix on discretisation. Differs from it: all
levels are popped before any is pushed, which needs more initial bits and serves any order of inference.

Discrete latents, as those of `discrete_vae`, need no intervals: z is popped by q(z|x) and pushed by its learnt prior.

An average over orders, as `orderless_made`, has a discrete z, the order, with the exact posterior q(k|x) = p(k|x), so
its rate is the exact likelihood.

Source: Practical Lossless Compression with Latent Variables using Bits Back Coding (Townsend et al., 2019),
arXiv:1901.04866, section 2.4 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy
import torch
from torch import Tensor

from dgm.compression.codecs import GivenCode, Values
from dgm.compression.frequencies import Frequencies, log_interval
from dgm.compression.reals import Grid
from dgm.compression.stack import Stack
from dgm.models.autoregressive.orderless_made import OrderlessMADE
from dgm.models.vae.base import GaussianVAE
from dgm.models.vae.discrete_vae import DiscreteVAE
from dgm.models.vae.hierarchy import Hierarchy
from dgm.networks.conditions import sampled_condition
from dgm.networks.raster import from_sequence, raster_order
from dgm.protocols import Batch, Conditions
from dgm.seeds import mix, streams

INTERVALS = 2**12
DRAWN = 1000  # samples of a chain of latent variables, for the moments of each level
INITIAL_BITS = 24  # at most, of one dimension of z


def initial(values: int) -> numpy.ndarray:
    """The words on the stack before the first example, for as many values of z."""
    words = 2 + values * INITIAL_BITS // 32
    return numpy.random.default_rng(0).integers(1, 2**32, words, dtype=numpy.uint32)


def shift(k: int, values: int, of: int = INTERVALS) -> Tensor:
    """Random numbers for the z of example k. Without them a posterior near the prior pops the bits that the last z
    left, and every example has the same z: the length is that of one draw, whose mean the bound is.
    """
    return torch.randint(of, (values,), generator=torch.Generator().manual_seed(mix(k) >> 1))


class BitsBackCodec:
    """A VAE with a normal posterior and the standard normal prior."""

    def __init__(self, model: GaussianVAE) -> None:
        self.model, self.space, self.given = model, model.space, GivenCode(model.space, model.observed, model.outputs)
        self.latent = model.latent_space.dim
        ranks = torch.arange(INTERVALS + 1, dtype=torch.float64) / INTERVALS
        self.edges = torch.special.ndtri(ranks)
        self.medians = torch.special.ndtri(ranks[:-1] + 0.5 / INTERVALS)
        prior = torch.full((self.latent, INTERVALS), -math.log(INTERVALS), dtype=torch.float64)
        self.prior = Frequencies(prior)
        self.initial = initial(self.latent)

    def posterior(self, x: Batch, y: Conditions | None) -> Frequencies:
        """Of the intervals of each dimension of z, given one example."""
        mu, log_sigma = (v[0, :, None].double() for v in self.model.posterior(x, y))
        return Frequencies(log_interval((self.edges - mu) / log_sigma.exp()))

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        for k in range(len(x)):
            x_k, y_k = x[k : k + 1], None if y is None else y[k : k + 1]
            ranks = stack.pop(self.posterior(x_k, y_k))
            self.given.push(stack, x_k, self.medians[ranks][None], y_k)
            stack.push((ranks + shift(k, self.latent)) % INTERVALS, self.prior)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        found = []
        for k in reversed(range(n)):
            y_k = None if y is None else y[k : k + 1]
            ranks = (stack.pop(self.prior) - shift(k, self.latent)) % INTERVALS
            x_k = self.given.pop(stack, self.medians[ranks][None], y_k)
            stack.push(ranks, self.posterior(x_k, y_k))
            found.append(x_k)
        return torch.cat(found[::-1])


class DiscreteCodec:
    """A VAE with discrete latents.

    The values of z are coded in another random order for each example and latent, for the reason of `shift`, which a
    prior that is not uniform does not allow.
    """

    def __init__(self, model: DiscreteVAE) -> None:
        self.model, self.space, self.given = model, model.space, GivenCode(model.space, model.observed, model.outputs)
        self.log_p = model.prior.double().log_softmax(-1)
        self.initial = initial(len(self.log_p))

    def order(self, k: int) -> Tensor:
        """The orders of the values of z of example k, (latents, K)."""
        return torch.rand(self.log_p.shape, generator=torch.Generator().manual_seed(mix(k) >> 1)).argsort(-1)

    def posterior(self, x: Batch, y: Conditions | None, order: Tensor) -> Frequencies:
        return Frequencies(self.model.log_posterior(x, y)[0].double().gather(1, order))

    def prior(self, order: Tensor) -> Frequencies:
        return Frequencies(self.log_p.gather(1, order))

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        for k in range(len(x)):
            x_k, y_k, order = x[k : k + 1], None if y is None else y[k : k + 1], self.order(k)
            ranks = stack.pop(self.posterior(x_k, y_k, order))
            self.given.push(stack, x_k, order.gather(1, ranks[:, None]).mT, y_k)
            stack.push(ranks, self.prior(order))

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        found = []
        for k in reversed(range(n)):
            y_k, order = None if y is None else y[k : k + 1], self.order(k)
            ranks = stack.pop(self.prior(order))
            x_k = self.given.pop(stack, order.gather(1, ranks[:, None]).mT, y_k)
            stack.push(ranks, self.posterior(x_k, y_k, order))
            found.append(x_k)
        return torch.cat(found[::-1])


class Intervals:
    """Intervals of equal probability under a normal distribution, in each dimension of one latent variable.

    Args:
        drawn: (N, L), samples whose mean and standard deviation that distribution has.
    """

    def __init__(self, drawn: Tensor) -> None:
        ranks = torch.arange(INTERVALS + 1, dtype=torch.float64) / INTERVALS
        mu, sigma = drawn.mean(0)[:, None], drawn.std(0)[:, None]
        self.edges = mu + sigma * torch.special.ndtri(ranks)
        self.medians = mu + sigma * torch.special.ndtri(ranks[:-1] + 0.5 / INTERVALS)

    def frequencies(self, mu: Tensor, log_sigma: Tensor) -> Frequencies:
        """Of the intervals of each dimension, under N(mu, sigma²) with moments (1, L)."""
        return Frequencies(log_interval((self.edges - mu[0, :, None]) / log_sigma[0, :, None].exp()))

    def values(self, ranks: Tensor) -> Tensor:
        """z, (1, L), of the ranks (L,) of intervals."""
        return self.medians.gather(1, ranks[:, None]).mT


class ChainCodec:
    """A chain of latent variables: `dgm.models.vae.hierarchy`."""

    def __init__(self, model: Hierarchy) -> None:
        self.model, self.space = model, model.space
        self.given = GivenCode(model.space, model.observed, model.outputs_of)
        self.latents: tuple[int, ...] = model.config.latents[::-1]  # the top level first
        self.initial = initial(sum(self.latents))

    @cached_property
    def intervals(self) -> list[Intervals]:
        """Those of each level."""
        noise = streams(DRAWN, 0, torch.device("cpu"))
        y = sampled_condition(None, self.model, noise)
        top, *rest = self.model.prior_code(noise, y).double().split(self.latents, -1)
        drawn = [top]
        for k, eps in enumerate(rest):
            mu, log_sigma = self.model.prior(k, drawn[-1], y)
            drawn.append(mu + log_sigma.exp() * eps)
        return [Intervals(z) for z in drawn]

    def prior(self, level: int, above: Tensor | None, y: Conditions | None) -> Frequencies:
        """Of a level, the top one being 0, given the value above it."""
        mu = torch.zeros(1, self.latents[level], dtype=torch.float64)
        moments = (mu, mu) if above is None else self.model.prior(level - 1, above, y)
        return self.intervals[level].frequencies(*moments)

    def inferred(
        self, x: Batch, y: Conditions | None, ranks_of: Callable[[int, Frequencies], Tensor]
    ) -> list[tuple[int, Tensor, Frequencies]]:
        """Each level with its ranks and its posterior, in the order of inference."""
        levels = list(range(len(self.latents)))
        order, found = iter(levels if self.model.first_inferred == "top" else levels[::-1]), []

        def draw(mu: Tensor, log_sigma: Tensor) -> Tensor:
            level = next(order)
            posterior = self.intervals[level].frequencies(mu, log_sigma)
            found.append((level, ranks_of(level, posterior), posterior))
            return self.intervals[level].values(found[-1][1])

        self.model.infer(x, y, draw)
        return found

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        for k in range(len(x)):
            x_k, y_k = x[k : k + 1], None if y is None else y[k : k + 1]
            ranks = {level: of for level, of, _ in self.inferred(x_k, y_k, lambda _, known: stack.pop(known))}
            z = [intervals.values(ranks[level]) for level, intervals in enumerate(self.intervals)]
            self.given.push(stack, x_k, z[-1], y_k)
            for level in reversed(range(1, len(z))):
                stack.push(ranks[level], self.prior(level, z[level - 1], y_k))
            stack.push((ranks[0] + shift(k, self.latents[0])) % INTERVALS, self.prior(0, None, y_k))

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        found = []
        for k in reversed(range(n)):
            y_k = None if y is None else y[k : k + 1]
            ranks = [(stack.pop(self.prior(0, None, y_k)) - shift(k, self.latents[0])) % INTERVALS]
            for level in range(1, len(self.latents)):
                ranks.append(stack.pop(self.prior(level, self.intervals[level - 1].values(ranks[-1]), y_k)))
            x_k = self.given.pop(stack, self.intervals[-1].values(ranks[-1]), y_k)
            self.give_back(stack, x_k, y_k, ranks)
            found.append(x_k)
        return torch.cat(found[::-1])

    def give_back(self, stack: Stack, x: Batch, y: Conditions | None, ranks: list[Tensor]) -> None:
        """Pushes the ranks of all levels by their posteriors."""
        for _, of, posterior in reversed(self.inferred(x, y, lambda level, _: ranks[level])):
            stack.push(of, posterior)


class OrdersCodec:
    """An average over orders, `orderless_made`: the order is popped by p(k|x) and pushed by its uniform prior."""

    def __init__(self, model: OrderlessMADE, grids: Mapping[int, Grid] | None = None) -> None:
        self.model, self.space, self.initial = model, model.space, initial(1)
        self.values, self.orders = Values(model.space, model.made.each, grids), model.config.orders
        self.prior = Frequencies(torch.full((1, self.orders), -math.log(self.orders), dtype=torch.float64))

    def posterior(self, x: Batch, y: Conditions | None) -> Tensor:
        """log p(k|x) of every order k, (B, K)."""
        log_p = torch.stack([self.model.log_prob_by(k, x, y) for k in range(self.orders)], -1)
        return log_p.double().log_softmax(-1)

    def dims(self, order: int) -> list[int]:
        """The flattened dimensions of x in this order."""
        reading = raster_order(self.space)
        return [reading[i] for i in self.model.places[order].argsort().tolist()]

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        log_p = self.posterior(x, y)
        for k in range(len(x)):
            x_k, y_k = x[k : k + 1], None if y is None else y[k : k + 1]
            order = int(stack.pop(Frequencies(log_p[k : k + 1])))
            outputs = self.model.made.outputs(x_k, y_k, self.model.m[order], self.model.places[order])
            outputs = from_sequence(outputs, self.space).flatten(1, -2)
            for dim in reversed(self.dims(order)):
                self.values.push(stack, x_k.flatten(1)[:, dim], outputs[:, dim], dim)
            stack.push((order + shift(k, 1, self.orders)) % self.orders, self.prior)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        found = []
        for k in reversed(range(n)):
            y_k = None if y is None else y[k : k + 1]
            order = int((stack.pop(self.prior) - shift(k, 1, self.orders)) % self.orders)
            x_k = torch.zeros(1, *self.space.shape, dtype=self.space.dtype)
            walk = self.model.made.conditionals_by(x_k, y_k, self.model.m[order], self.model.places[order])
            for dim, outputs in zip(self.dims(order), walk, strict=True):
                x_k.view(1, -1)[:, dim] = self.values.pop(stack, outputs, dim)
            stack.push(torch.tensor([order]), Frequencies(self.posterior(x_k, y_k)))
            found.append(x_k)
        return torch.cat(found[::-1])
