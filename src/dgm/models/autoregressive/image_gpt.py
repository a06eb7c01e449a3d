r"""Image GPT, exact log-likelihood.

.. math:: \log p(x) = \sum_d \log p(x_d | x_{<d})

A causal transformer over the values of an image in raster order, with the channels of a pixel one after the other; each
value is a token.

Source: Generative pretraining from pixels (Chen et al., 2020), equations 1 and 3.
Differs from it: all levels of all channels, unless the data set clusters its colours as the paper does (``palette``);
rotary in addition to learned position embedding; the condition is a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dgm.models.autoregressive.transformer import AutoregressiveTransformer
from dgm.settings import setting


class ImageGPT(AutoregressiveTransformer):
    """log P(x) in nats.

    Args:
        space: Any discrete space; every dimension is a token.

    Example:
        >>> from dgm import Space
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

    learned: ClassVar[bool] = True
    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens"}
    defaults: ClassVar[dict[str, Any]] = {
        "batch": 32,
        "lr": 1e-3,
        "betas": (0.9, 0.95),
        "warmup": 100,
        "clip": 1.0,
        "ema": 0.995,
    }
