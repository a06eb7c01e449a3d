r"""A character-level language model, exact log-likelihood.

.. math:: \log P(x) = \sum_l \log P(x_l | x_{<l})

A causal transformer over the characters or bytes of a text. The first character is given a start token, so P is a
distribution over whole windows; later windows of a text are no continuation of earlier ones.

Source: Language models are unsupervised multitask learners (Radford et al., 2019), equation 1; for the positions
RoFormer (Su et al., 2021), arXiv:2104.09864, equation 34.
Differs from it: characters in place of byte pairs, rotary positions in place of learned ones, no biases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from dgm.distributions.output import output_distribution
from dgm.networks.causal_transformer import NextToken
from dgm.networks.embeddings import check_labels
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space


class CharGPT(nn.Module):
    """log P(x) in nats; its loss is per character.

    Args:
        space: Sequences of tokens (L,), where L is the context.

    Example:
        >>> model = CharGPT(Space.tokens(8, vocabulary=5), CharGPT.Config(width=8, layers=1, heads=2))
        >>> model.sample(2, seed=0).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(128, "of each position's vector, a multiple of twice the heads", low=2)
        layers: int = setting(4, "layers of the transformer", low=1, high=1000)
        heads: int = setting(4, "of the attention", low=1)
        dropout: float = setting(0.0, "share of features left out in training", low=0.0, high=0.95)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    spaces: ClassVar[set[str]] = {"tokens"}
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 32,
        "lr": 2e-3,
        "betas": (0.9, 0.99),
        "weight_decay": 0.1,
        "warmup": 100,
        "clip": 1.0,
        "ema": 0.99,
    }
    likelihood_method = "chain rule, one pass"
    loss_unit = "nats a dimension"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.observed = output_distribution(space)
        self.network = NextToken(
            space.values or 0,
            space.dim,
            self.observed.outputs,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            classes=config.classes,
            learned=False,
        )

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y) / self.space.dim

    def conditionals(self, x: Batch, y: Labels | None = None) -> Tensor:
        logits = self.network(to_sequence(x, self.space), check_labels(y, self.config.classes))
        return from_sequence(logits, self.space)

    def steps(self, x: Batch, y: Labels | None = None) -> Iterator[Tensor]:
        """Keys and values of what was read are kept."""
        y = check_labels(y, self.config.classes)
        return self.network.steps(x.view(len(x), -1), raster_order(self.space), y)

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)
