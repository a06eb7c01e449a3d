r"""Bits back with asymmetric numeral systems: the codec of a variational autoencoder.

To code x, z is popped from the stack by q(z|x), then x is pushed by p(x|z) and z by p(z). Bits that were on the stack
before choose z and come back on decoding, so the expected net number of bits is that of the bound,

.. math:: E_{q(z|x)}[-\log_2 p(x|z) - \log_2 p(z) + \log_2 q(z|x)]

The stack starts with bits of a fixed seed. What was used of them is part of the length, and decoding ends with them.

z is one of 2^12 values in each dimension, the medians of intervals of equal probability under the standard normal
prior, so that log2 p(z) = -12 exactly. q(z|x) is the probability of each interval under the posterior.

Source: Practical Lossless Compression with Latent Variables using Bits Back Coding (Townsend et al., 2019),
arXiv:1901.04866, section 2.4 and appendix B.
"""

from __future__ import annotations

import math

import numpy
import torch
from torch import Tensor

from dgm.compression.codecs import GivenCode
from dgm.compression.frequencies import Frequencies
from dgm.compression.stack import Stack
from dgm.protocols import Batch, Conditions, Model
from dgm.seeds import mix

INTERVALS = 2**12
INITIAL_BITS = 24  # at most, of one dimension of z


class BitsBackCodec:
    """A VAE with a normal posterior and the standard normal prior."""

    def __init__(self, model: Model) -> None:
        self.model, self.space, self.given = model, model.space, GivenCode(model, model.outputs)
        self.latent = model.latent_space.dim
        ranks = torch.arange(INTERVALS + 1, dtype=torch.float64) / INTERVALS
        self.edges = torch.special.ndtri(ranks)
        self.medians = torch.special.ndtri(ranks[:-1] + 0.5 / INTERVALS)
        prior = torch.full((self.latent, INTERVALS), -math.log(INTERVALS), dtype=torch.float64)
        self.prior = Frequencies(prior)
        words = 2 + self.latent * INITIAL_BITS // 32
        self.initial = numpy.random.default_rng(0).integers(1, 2**32, words, dtype=numpy.uint32)

    def posterior(self, x: Batch, y: Conditions | None) -> Frequencies:
        """Of the intervals of each dimension of z, given one example."""
        mu, log_sigma = (v[0, :, None].double() for v in self.model.posterior(x, y))
        return Frequencies(log_interval((self.edges - mu) / log_sigma.exp()))

    def shift(self, k: int) -> Tensor:
        """Random numbers for example k. Without them a posterior near the prior pops the bits that the last z left,
        and every example has the same z: the length is that of one draw, whose mean the bound is.
        """
        generator = torch.Generator().manual_seed(mix(k) >> 1)
        return torch.randint(INTERVALS, (self.latent,), generator=generator)

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        for k in range(len(x)):
            x_k, y_k = x[k : k + 1], None if y is None else y[k : k + 1]
            ranks = stack.pop(self.posterior(x_k, y_k))
            self.given.push(stack, x_k, self.medians[ranks][None], y_k)
            stack.push((ranks + self.shift(k)) % INTERVALS, self.prior)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        found = []
        for k in reversed(range(n)):
            y_k = None if y is None else y[k : k + 1]
            ranks = (stack.pop(self.prior) - self.shift(k)) % INTERVALS
            x_k = self.given.pop(stack, self.medians[ranks][None], y_k)
            stack.push(ranks, self.posterior(x_k, y_k))
            found.append(x_k)
        return torch.cat(found[::-1])


def log_interval(edges: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) of neighbouring edges, (L, K + 1) to (L, K), as a difference in the nearer tail."""
    tail = torch.special.ndtr(-edges.abs())
    a, b, upper = tail[..., :-1], tail[..., 1:], edges[..., :-1] >= 0
    within = torch.where(edges[..., 1:] <= 0, b - a, 1 - a - b)
    return torch.where(upper, a - b, within).log()
