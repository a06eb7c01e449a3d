r"""A character-level language model, exact log-likelihood.

.. math:: \log P(x) = \sum_l \log P(x_l | x_{<l})

A causal transformer over the characters or bytes of a text. The first character is given a start token, so P is a
distribution over windows; windows of a text are independent.

Source: Language models are unsupervised multitask learners (Radford et al., 2019), equation 1; for the positions
RoFormer (Su et al., 2021), arXiv:2104.09864, equation 34.
Differs from it: characters in place of byte pairs, rotary positions in place of learned ones, no biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dgm.models.autoregressive.transformer import AutoregressiveTransformer
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting


class CharGPT(AutoregressiveTransformer):
    """log P(x) in nats; its loss is per character.

    Args:
        space: Sequences of tokens (L,), where L is the context.

    Example:
        >>> from dgm import Space
        >>> model = CharGPT(Space.tokens(8, vocabulary=5), CharGPT.Config(width=8, layers=1, heads=2))
        >>> model.sample(2, seed=0).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(128, "width of the vector of each position, a multiple of twice the heads", low=2)
        layers: int = setting(4, "layers of the transformer", low=1, high=1000)
        heads: int = setting(4, "heads of the attention", low=1)
        dropout: float = setting(0.0, "dropout rate of features", low=0.0, high=0.95)

    learned: ClassVar[bool] = False
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
    loss_unit = "nats a dimension"

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y) / self.space.dim
