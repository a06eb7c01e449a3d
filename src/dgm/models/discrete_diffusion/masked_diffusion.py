r"""Masked diffusion, a lower bound on the likelihood.

.. math:: \log p(x) \ge E_{t \sim U(0,1)} \frac{-\alpha_t'}{1 - \alpha_t} \sum_{l: z_t^l = m} \log p(x^l | z_t)

A set of k of the D positions is masked at time t with probability :math:`(1-\alpha_t)^k \alpha_t^{D-k}`, so t can be
integrated out by :math:`\int_0^1 u^{k-1} (1-u)^{D-k} du = 1 / (k \binom{D}{k})` for any schedule. The remaining
expectation is sampled with bounded weights, where the weights of t have infinite variance:

.. math:: E_{k \sim U\{1..D\}} E_{|M| = k} \frac{D}{k} \sum_{l \in M} \log p(x^l | x^{\setminus M})

It is the bound of samples whose values are unmasked one at a time, in a random order,

.. math:: \log p(x) = \log E_{order} \prod_i p(x^{o_i} | x^{o_1 \ldots o_{i-1}}) \ge
    E_{order} \sum_i \log p(x^{o_i} | x^{o_1 \ldots o_{i-1}})

as the sampler does with at least as many steps as values. **With fewer steps its samples follow another distribution**,
since values that are unmasked in the same step are drawn independently. Only the sampler uses the schedule. Probability
of x, in nats.

Source: Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), arXiv:2406.07524, equation 10; the
second form is that of autoregressive diffusion (Hoogeboom et al., 2021), arXiv:2110.02037, equation 5.
Differs from it: images go through a U-Net; the network is conditioned on the masked share in place of t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dgm.modes import evaluated
from dgm.networks.conditioning import TimedConditioning
from dgm.networks.conditions import (
    EVERY_KIND,
    Marginal,
    PartlyHidden,
    check_condition,
    partly_hidden,
    sampled_condition,
)
from dgm.networks.transformer import Transformer
from dgm.networks.unet import UNet
from dgm.processes.masking import Cosine, Linear, MaskingSchedule, mask_positions
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.samplers.unmasking import most_likely, unmask, unmasking_step
from dgm.seeds import Seed, stratified, streams
from dgm.settings import setting
from dgm.space import Space

SCHEDULES: dict[str, type[MaskingSchedule]] = {"linear": Linear, "cosine": Cosine}


class MaskedDiffusion(nn.Module):
    """Predicts the values of all masked positions in parallel.

    Example:
        >>> model = MaskedDiffusion(Space.tokens(5, vocabulary=8), MaskedDiffusion.Config())
        >>> model.sample(2, seed=0).shape
        torch.Size([2, 5])
    """

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3,
        "warmup": 50,
        "clip": 1.0,
        "ema": 0.995,
        "batch": 128,
    }
    likelihood_method = "continuous-time bound, one mask drawn"
    loss_unit = "nats a dimension"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(24, "channels of the network, a multiple of 8", low=8)
        layers: int = setting(4, "layers of the transformer; unused for images", low=1, high=1000)
        schedule: Literal["linear", "cosine"] = setting("linear", "unmasking schedule of the sampler")
        sampling_steps: int = setting(64, "sampling steps; as many as values: one at a time", low=1, high=100_000)
        condition_dropout: float = setting(
            0.0, "dropout rate of conditions in training, for guidance", low=0.0, high=1.0
        )

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.marginal = None if condition is None else Marginal(condition)
        self.mask = space.values or 0  # the symbol after the last value
        self.schedule = SCHEDULES[config.schedule]()
        network = ImageNetwork if len(space.shape) == 3 else SequenceNetwork
        self.network: nn.Module = network(space, config, condition)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """-elbo / D, with condition dropout."""
        given = partly_hidden(check_condition(y, self.condition), self.config.condition_dropout)
        return -self.bound(x, given) / self.space.dim

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """One draw of k, stratified over the batch, and of the k masked positions."""
        return self.bound(x, check_condition(y, self.condition))

    def bound(self, x: Batch, y: Conditions | PartlyHidden | None) -> PerExample:
        x, dim = x.flatten(1).long(), self.space.dim
        k = 1 + (stratified(len(x), x.device) * dim).long().clamp_max(dim - 1)
        masked = mask_positions(k, dim)
        logits = self.network(torch.where(masked, self.mask, x), y)
        nats = -cross_entropy(logits.movedim(-1, 1), x, reduction="none")
        return dim / k * (nats * masked).sum(1)

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        *_, (z, _) = self.states(n, y, seed)
        return self.values(z)

    @evaluated
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """In each state, masked positions have their most likely value."""
        yield from self.guided(n, y, seed=seed)

    @evaluated
    def guided(self, n: int, y: Conditions | None = None, *, seed: Seed = None, scale: float = 1.0) -> Iterator[State]:
        """`trajectory` with classifier-free guidance: logits log p(x|y) + (scale - 1) (log p(x|y) - log p(x)).

        Source: Simple Guidance Mechanisms for Discrete Diffusion Models (Schiff et al., 2024), arXiv:2412.10193,
        section 3.1.
        """
        for step, (z, logits) in enumerate(self.states(n, y, seed, scale), 1):
            yield State(self.values(most_likely(z, logits, self.mask)), step, self.sampling_steps)

    @torch.no_grad()
    def states(self, n: int, y: Conditions | None, seed: Seed, scale: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        """The states of `unmask`: symbols (n, D) and logits (n, D, K)."""
        device = next(self.parameters()).device
        draw = streams(n, seed, device)
        y = sampled_condition(y, self, draw)
        when, which = draw.uniform((2, self.space.dim)).unbind(1)
        step = unmasking_step(when, self.schedule, self.sampling_steps)
        z = torch.full((n, self.space.dim), self.mask, device=device)
        yield from unmask(lambda z: self.logits(z, y, scale), z, step, which, self.sampling_steps)

    def logits(self, z: Tensor, y: Conditions | None, scale: float = 1.0) -> Tensor:
        """Logits (B, D, K) of the guided distribution."""
        given = self.network(z, y)
        if scale == 1:
            return given
        return torch.lerp(self.network(z, None).log_softmax(-1), given.log_softmax(-1), scale)

    @property
    def sampling_steps(self) -> int:
        """Number of sampling steps, at most the number of values."""
        return min(self.config.sampling_steps, self.space.dim)

    def values(self, z: Tensor) -> Batch:
        return z.reshape(len(z), *self.space.shape).to(self.space.dtype)


class SequenceNetwork(nn.Module):
    """A transformer over the flattened positions."""

    def __init__(self, space: Space, config: MaskedDiffusion.Config, condition: Space | None) -> None:
        super().__init__()
        self.mask, width = space.values or 0, 4 * config.width
        self.conditioning = TimedConditioning(width, condition, dropout=config.condition_dropout)
        self.body = Transformer(space.dim, self.mask + 1, self.mask, width=width, layers=config.layers, heads=4)

    def forward(self, z: Tensor, y: Conditions | PartlyHidden | None) -> Tensor:
        """(B, D) symbols to logits (B, D, K)."""
        vector, sequence, _ = self.conditioning((z == self.mask).float().mean(1), y)
        return self.body(z, vector, sequence)


class ImageNetwork(nn.Module):
    """A U-Net over the image of embedded symbols."""

    def __init__(self, space: Space, config: MaskedDiffusion.Config, condition: Space | None) -> None:
        super().__init__()
        self.shape, self.mask = space.shape, space.values or 0
        channels, height, width = space.shape
        embedded = config.width // 2
        self.conditioning = TimedConditioning(
            4 * config.width, condition, dropout=config.condition_dropout, size=(height, width)
        )
        self.embedding = nn.Embedding(self.mask + 1, embedded)
        self.body = UNet(
            (height, width),
            channels * embedded + self.conditioning.channels,
            channels * self.mask,
            width=config.width,
            condition=4 * config.width,
            context=4 * config.width if self.conditioning.has_sequence else 0,
        )

    def forward(self, z: Tensor, y: Conditions | PartlyHidden | None) -> Tensor:
        """(B, D) symbols to logits (B, D, K)."""
        vector, sequence, maps = self.conditioning((z == self.mask).float().mean(1), y)
        pixels = self.embedding(z.unflatten(1, self.shape)).movedim(-1, 2).flatten(1, 2)
        if maps is not None:
            pixels = torch.cat([pixels, maps], 1)
        logits = self.body(pixels, vector, sequence).unflatten(1, (self.shape[0], self.mask))
        return logits.movedim(2, -1).reshape(len(z), math.prod(self.shape), self.mask)
