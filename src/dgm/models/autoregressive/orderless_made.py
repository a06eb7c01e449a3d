r"""Order-agnostic MADE, exact log-likelihood, with one pass for each order.

.. math:: p(x) = \frac{1}{K} \sum_k \prod_i p_k(x_{\sigma_k(i)} | x_{\sigma_k(1)}, \dots, x_{\sigma_k(i-1)})

One network with K pairs of an order and a set of masks. Each training step draws a pair, and the density is the mean
over all pairs. Since the orders differ, p(x_d | x_<d) of the mixture is a sum over all later dimensions: it has a
likelihood and samples, but no conditionals. A sample first draws k, then its dimensions in that order.

Source: MADE (Germain et al., 2015), arXiv:1502.03509, sections 4.1 and 4.2.
Differs from it: the orders of training are those of the ensemble; more than binary data; conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.models.autoregressive.made import MADE
from dgm.modes import evaluated
from dgm.networks.conditions import sampled_condition
from dgm.networks.raster import from_sequence, raster_order
from dgm.protocols import Batch, Conditions, PerExample, State
from dgm.seeds import Seed, streams
from dgm.settings import setting
from dgm.space import Space


class OrderlessMADE(nn.Module):
    """log p(x) in nats: of a probability on discrete data, of a density in the data's units otherwise.

    Args:
        space: Any space.

    Example:
        >>> model = OrderlessMADE(Space.binary((4,)), OrderlessMADE.Config(hidden=8, orders=2))
        >>> model.log_prob(model.sample(3, seed=0)).shape
        torch.Size([3])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(512, "width of the hidden layers", low=1)
        layers: int = setting(1, "hidden layers", low=1, high=1000)
        orders: int = setting(
            16, "K, orders with their masks: one a step of training, averaged over afterwards", low=1, high=10_000
        )
        direct: bool = setting(False, "direct connections from inputs to outputs")
        components: int = setting(5, "components of the mixtures, for grey levels and real numbers", low=1)
        dropout: float = setting(0.2, "dropout rate of hidden units", low=0.0, high=0.95)

    conditions: ClassVar[frozenset[str]] = MADE.conditions
    spaces: ClassVar[set[str]] = MADE.spaces
    defaults: ClassVar[dict[str, Any]] = MADE.defaults
    places: Tensor
    m: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.likelihood_method = f"chain rule, mean of {config.orders} orders"
        self.made = MADE(
            space,
            MADE.Config(
                hidden=config.hidden,
                layers=config.layers,
                direct=config.direct,
                components=config.components,
                dropout=config.dropout,
            ),
            condition,
        )
        places, m = pairs(space.dim, config)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("m", m, persistent=False)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        of_each = torch.stack([self.log_prob_by(k, x, y) for k in range(self.config.orders)])
        return of_each.logsumexp(0) - math.log(self.config.orders)

    def log_prob_by(self, k: int, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p_k(x), of one order."""
        outputs = from_sequence(self.made.outputs(x, y, self.m[k], self.places[k]), self.space)
        return self.made.each.log_prob(outputs, x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """-log p under one order that is drawn: on average an upper bound of -log p, at the cost of one pass."""
        return -self.log_prob_by(int(torch.randint(self.config.orders, ())), x, y)

    @evaluated
    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]:
        """One dimension in each step; each sample has its own order."""
        noise = streams(n, seed, self.m.device)
        y = sampled_condition(y, self, noise)
        k = (noise.uniform(()) * self.config.orders).long()
        u = noise.uniform((self.space.dim, 2))
        x = torch.zeros(n, *self.space.shape, dtype=self.space.dtype, device=self.m.device)
        return self.filled(x, y, k, u)

    @torch.inference_mode()
    def filled(self, x: Batch, y: Conditions | None, k: Tensor, u: Tensor) -> Iterator[State]:
        """Fills ``x``, the samples of one order side by side."""
        flat, reading = x.view(len(x), -1), raster_order(self.space)
        groups = [(order, torch.where(k == order)[0]) for order in k.unique().tolist()]
        parts = [x[rows] for _, rows in groups]
        walks = [
            self.made.conditionals_by(part, None if y is None else y[rows], self.m[order], self.places[order])
            for part, (order, rows) in zip(parts, groups, strict=True)
        ]
        orders = self.places.argsort(1).tolist()
        for i in range(self.space.dim):
            for part, (order, rows), walk in zip(parts, groups, walks, strict=True):
                dim = reading[orders[order][i]]
                drawn = self.made.each.sample(next(walk), u[rows, i], dim)
                part.view(len(rows), -1)[:, dim] = flat[rows, dim] = drawn
            yield State(x, i + 1, self.space.dim)

    @evaluated
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        for state in self.trajectory(n, y, seed=seed):
            x = state.x
        return x


def pairs(dim: int, config: OrderlessMADE.Config) -> tuple[Tensor, Tensor]:
    """The place of each dimension in each order, from 1, (orders, dim), and m(k), (orders, layers, hidden).

    A pure function of the settings, so that a checkpoint needs neither.
    """
    generator = torch.Generator().manual_seed(config.orders)
    orders = [torch.randperm(dim, generator=generator) + 1 for _ in range(config.orders)]
    return torch.stack(orders), torch.randint(dim, (config.orders, config.layers, config.hidden), generator=generator)
