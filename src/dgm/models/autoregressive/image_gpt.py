r"""Image GPT, exact log-likelihood.

.. math:: \log p(x) = \sum_d \log p(x_d | x_{<d})

A causal transformer over the values of an image in raster order, with the channels of a pixel one after the other; each
value is a token.

Source: Generative pretraining from pixels (Chen et al., 2020), equations 1 and 3.
Differs from it: all levels of all channels, unless the data set clusters its colours as the paper does (``palette``);
rotary in addition to learned position embedding; the condition is a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from dgm.distributions.output import output_distribution
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_transformer import NextToken
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space


class ImageGPT(ChainRule):
    """log P(x) in nats.

    Args:
        space: Any discrete space; every dimension is a token.

    Example:
        >>> model = ImageGPT(Space.binary((1, 4, 4)), ImageGPT.Config(width=8, layers=1))
        >>> model.sample(2, seed=0).shape
        torch.Size([2, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(64, "width of the vector of each position, a multiple of twice the heads", low=2)
        layers: int = setting(8, "layers of the transformer", low=1, high=1000)
        heads: int = setting(2, "heads of the attention", low=1)
        dropout: float = setting(0.0, "dropout rate of features", low=0.0, high=0.95)

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 32,
        "lr": 1e-3,
        "betas": (0.9, 0.95),
        "warmup": 100,
        "clip": 1.0,
        "ema": 0.995,
    }

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
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
            learned=True,
        )

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        logits = self.network(to_sequence(x, self.space), self.checked(y))
        return from_sequence(logits, self.space)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Caches keys and values of earlier tokens."""
        y = self.checked(y)
        return self.network.sequential_conditionals(x.view(len(x), -1), raster_order(self.space), y)
