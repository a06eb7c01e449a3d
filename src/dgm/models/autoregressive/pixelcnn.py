r"""PixelCNN, exact log-likelihood.

.. math:: \log p(x) = \sum_{ij} \sum_{c} \log p(x_{ij}^c | x_{<ij}, x_{ij}^{<c})

The receptive field of a stack of masked convolutions has the pixels above and to the left. Stacked 3 x 3 masks have a
blind spot: a wedge of pixels above and to the right outside of the receptive field.

Source: Pixel recurrent neural networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), arXiv:1601.06759, equations 1
and 2, section 3.3 and figure 5.
Differs from it: optionally a mixture of discretised logistics (``components``) and a condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn, relu, relu_

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, cached
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.maps import of_pixel, per_channel
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space


class PixelCNN(ChainRule):
    """log p(x) in nats, of a probability on discrete images, of a density in the data's units otherwise.

    Args:
        space: Images (C, H, W).

    Example:
        >>> pixelcnn = PixelCNN(Space.binary((1, 4, 4)), PixelCNN.Config(width=4, layers=2))
        >>> pixelcnn.log_prob(pixelcnn.sample(2, seed=0)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(16, "h, half the features of the residual stream", low=1)
        layers: int = setting(15, "residual blocks", low=1, high=1000)
        head: int = setting(32, "features of the two last 1 x 1 convolutions", low=1)
        components: int = setting(0, "components of discretised logistics; 0 for a softmax", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 1e-3, "ema": 0.999, "clip": 1.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if len(space.shape) != 3:
            raise BadInput(f"pixelcnn takes images (C, H, W), got {space}", "use made for points and tables")
        self.observed = output_distribution(space, config.components)
        self.scaling = Scaling(space)
        self.read = None if condition is None else ConditionProjections(condition, space.shape[1:])
        self.network = Network(space.shape[0], self.observed.outputs, config, self.read)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        outputs = self.network(self.scaling(x), self.embedded(y))
        return outputs.unflatten(1, (self.space.shape[0], -1)).movedim(2, -1)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Every layer caches its features of earlier pixels, and computes those of one more pixel."""
        y, cursor, (channels, height, width) = self.embedded(y), Cursor(), self.space.shape
        network: Any = cached(self.network, PixelConv, len(x), (height, width), cursor)
        for cursor.row in range(height):
            for cursor.column in range(width):
                of_y = of_pixel(y, cursor.row, cursor.column)
                for c in range(channels):
                    yield network(self.pixel(x, cursor), of_y).unflatten(1, (channels, -1))[:, c]
                network.first.store(self.pixel(x, cursor))

    def pixel(self, x: Batch, cursor: Cursor) -> Tensor:
        return self.scaling.of_part(x, cursor.row, cursor.column)


class Network(nn.Module):
    """A 7 x 7 convolution of mask A, residual blocks of mask B, two 1 x 1 layers. Of images, or of one pixel."""

    def __init__(self, channels: int, outputs: int, config: PixelCNN.Config, read: ConditionProjections | None) -> None:
        super().__init__()
        h = config.width
        self.first = CausalConv2d(channels, 2 * h, 7, mask="A", channels=channels)
        self.condition_bias = None if read is None else read.projection(2 * h)
        self.blocks = nn.ModuleList(Residual(h, channels) for _ in range(config.layers))
        self.hidden = CausalConv2d(2 * h, config.head, 1, mask="B", channels=channels)
        self.output = CausalConv2d(config.head, channels * outputs, 1, mask="B", channels=channels)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, C, H, W) to (B, C * outputs, H, W), or (B, C) to (B, C * outputs)."""
        h = self.first(x)
        if self.condition_bias is not None:
            h = h + per_channel(self.condition_bias(y), h)
        for block in self.blocks:
            h = h + block(h)
        return self.output(relu_(self.hidden(relu(h))))


class Residual(nn.Module):
    """2 h features to h, a 3 x 3 convolution, and back to 2 h: the residual branch."""

    def __init__(self, h: int, channels: int) -> None:
        super().__init__()
        self.down = CausalConv2d(2 * h, h, 1, mask="B", channels=channels)
        self.conv = CausalConv2d(h, h, 3, mask="B", channels=channels)
        self.up = CausalConv2d(h, 2 * h, 1, mask="B", channels=channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.up(relu_(self.conv(relu_(self.down(relu(h))))))
