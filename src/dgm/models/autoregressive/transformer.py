"""The base class of autoregressive transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from dgm.distributions.output import output_distribution
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_transformer import NextToken
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions
from dgm.space import Space


class AutoregressiveTransformer(ChainRule):
    """An abstract transformer with a causal mask, whose tokens are the dimensions of x in raster order.

    Attributes:
        learned: Whether a learned position embedding is added, besides the rotary one.
    """

    learned: ClassVar[bool]

    def __init__(self, space: Space, config: Any, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.observed = output_distribution(space, 0)
        self.network = NextToken(
            space.values or 0,
            space.dim,
            self.observed.outputs,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            condition=condition,
            learned=self.learned,
        )

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        logits = self.network(to_sequence(x, self.space), self.checked(y))
        return from_sequence(logits, self.space)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Caches keys and values of earlier tokens."""
        y = self.checked(y)
        return self.network.sequential_conditionals(x.view(len(x), -1), raster_order(self.space), y)
