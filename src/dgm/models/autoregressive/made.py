r"""Masked autoencoder for distribution estimation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dgm.distributions.elementwise import elementwise
from dgm.distributions.features import Features
from dgm.networks.embeddings import check_labels
from dgm.networks.raster import from_sequence, to_sequence
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space


class MaskedLinear(nn.Module):
    """A linear layer some of whose weights are held at 0.

    Args:
        mask: (outputs, inputs), 1 where a weight is free.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        layer = nn.Linear(mask.shape[1], mask.shape[0])
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", mask.to(self.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    r"""Masked autoencoder; exact log-likelihood in one pass.

    .. math:: \log p(x) = \sum_d \log p(x_d | x_{<d}), \qquad
        M^{W}_{kk'} = 1[m(k) \ge m(k')], \quad M^{V}_{dk} = 1[d > m(k)]

    Hidden unit k may see the first m(k) dimensions, and output d only hidden units with m(k) < d, in raster order.
    log p is in nats: of a probability on discrete data, of a density in the data's units otherwise. The conditionals
    are Bernoulli on binary data, a table on tokens, a mixture of discretised logistics on levels or of normals
    otherwise.

    Source: MADE (Germain et al., 2015), arXiv:1502.03509, equations 8, 9, 12 and 13.
    Differs from it: one order and one set of masks, with m(k) spread evenly and not drawn, from 0 on, where a unit sees
    only the label; no direct connections from inputs to outputs; more than binary data.

    Args:
        space: Any; images are read row by row, a pixel's channels together.

    Example:
        >>> made = MADE(Space.binary((4,)), MADE.Config(hidden=8))
        >>> made.log_prob(torch.zeros(2, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(512, "width of the hidden layers", low=1)
        layers: int = setting(1, "hidden layers", low=1)
        components: int = setting(5, "of the mixtures, for levels and real numbers", low=1)
        dropout: float = setting(0.2, "share of hidden units left out in training", low=0.0, high=0.95)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "weight_decay": 0.1, "ema": 0.999}
    likelihood_method = "chain rule, one pass"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.observed = elementwise(space, config.components)
        self.features = Features(space)
        degrees = torch.arange(1, space.dim + 1)
        inputs = degrees.repeat_interleave(self.features.width)
        outputs = degrees.repeat_interleave(self.observed.outputs)
        # m(k) from 0, which sees nothing but a label, to D - 1
        m = torch.arange(config.hidden) * space.dim // config.hidden
        widths = [inputs, *[m] * config.layers]
        self.hidden = nn.ModuleList(MaskedLinear(after[:, None] >= before[None]) for before, after in pairwise(widths))
        self.output = MaskedLinear(outputs[:, None] > m[None])
        self.label = nn.Embedding(config.classes, config.hidden) if config.classes else None
        self.dropout = nn.Dropout(config.dropout)

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y)

    def conditionals(self, x: Batch, y: Labels | None = None) -> Tensor:
        """The parameters of every p(x_d | x_<d), (B, *shape, outputs)."""
        y = check_labels(y, self.config.classes)
        h = self.hidden[0](to_sequence(self.features(x), self.space).flatten(1))
        if self.label is not None:
            h = h + self.label(y)
        for layer in self.hidden[1:]:
            h = layer(self.dropout(h.relu()))
        outputs = self.output(self.dropout(h.relu()))
        return from_sequence(outputs.unflatten(1, (self.space.dim, -1)), self.space)

    def steps(self, x: Batch, y: Labels | None = None) -> Iterator[Tensor]:
        return sequential.naive_steps(self, x, y)

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)
