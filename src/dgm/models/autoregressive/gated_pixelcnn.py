r"""Gated PixelCNN, exact log-likelihood.

.. math:: \log p(x|y) = \sum_{ij} \sum_c \log p(x_{ij}^c | x_{<ij}, x_{ij}^{<c}, y), \qquad
    h \leftarrow \tanh(W_f * h + V_f^T y) \odot \sigma(W_g * h + V_g^T y)

The receptive field of a vertical stack has all rows above, that of a horizontal stack the pixels to the left and,
through a link, the vertical stack: together all earlier pixels, without a blind spot.

Source: Conditional image generation with PixelCNN decoders (van den Oord et al., 2016), arXiv:1606.05328, equations 1,
2 and 4 and figure 2.
Differs from it: optionally a mixture of discretised logistics (``components``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu

from dgm.distributions.features import ChannelFeatures
from dgm.distributions.output import output_distribution
from dgm.errors import BadInput
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, RowConv, cached
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.maps import of_pixel, of_row, per_channel
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space

OF_TOKEN = 16  # features of a token, such as a code of a quantised image


class GatedPixelCNN(ChainRule):
    """log p(x) in nats, of a probability on discrete images, of a density in the data's units otherwise.

    Args:
        space: Images (C, H, W).

    Example:
        >>> model = GatedPixelCNN(Space.binary((1, 4, 4)), GatedPixelCNN.Config(width=4, layers=2))
        >>> model.log_prob(model.sample(2, seed=0)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(32, "features of each stack", low=1)
        layers: int = setting(8, "gated layers", low=1, high=1000)
        head: int = setting(64, "features of the last hidden 1 x 1 convolution", low=1)
        components: int = setting(0, "components of discretised logistics; 0 for a softmax", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 1e-3, "ema": 0.999, "clip": 1.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if len(space.shape) != 3:
            raise BadInput(f"gated_pixelcnn takes images (C, H, W), got {space}", "use made for points and tables")
        self.observed = output_distribution(space, config.components)
        channels, width = space.shape[0], config.width
        self.pixels = ChannelFeatures(space, OF_TOKEN)
        self.read = None if condition is None else ConditionProjections(condition, space.shape[1:])
        self.layers: Iterable[Any] = nn.ModuleList(
            Layer(width if k else self.pixels.width, width, 3 if k else 7, channels, self.read, first=k == 0)
            for k in range(config.layers)
        )
        self.hidden = CausalConv2d(width, config.head, 1, mask="B", channels=channels)
        self.output = CausalConv2d(config.head, channels * self.observed.outputs, 1, mask="B", channels=channels)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        y = self.embedded(y)
        v = h = self.pixels(x)
        for layer in self.layers:
            v, link = layer.down(v, y)
            h = layer.across(h, link, y)
        outputs = self.output(relu(self.hidden(relu(h))))
        return outputs.unflatten(1, (self.space.shape[0], -1)).movedim(2, -1)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Computes the vertical stack row by row and the horizontal stack pixel by pixel."""
        y, cursor, (channels, height, width) = self.embedded(y), Cursor(), self.space.shape
        copies: list[Any] = [cached(self, kind, len(x), (height, width), cursor) for kind in (RowConv, PixelConv)]
        rows, pixels = copies
        for cursor.row in range(height):
            v, links = self.pixels.of_part(x, slice(cursor.row, cursor.row + 1)), []
            for layer in rows.layers:
                v, link = layer.down(v, of_row(y, cursor.row))
                links.append(link)
            for cursor.column in range(width):
                of_y = of_pixel(y, cursor.row, cursor.column)
                for c in range(channels):
                    h = self.pixels.of_part(x, cursor.row, cursor.column)
                    for layer, link in zip(pixels.layers, links, strict=True):
                        h = layer.across(h, link[:, :, 0, cursor.column], of_y)
                    outputs = pixels.output(relu(pixels.hidden(relu(h))))
                    yield outputs.unflatten(1, (channels, -1))[:, c]
                pixels.layers[0].horizontal.store(self.pixels.of_part(x, cursor.row, cursor.column))
            rows.layers[0].vertical.store(self.pixels.of_part(x, slice(cursor.row, cursor.row + 1)))


class Layer(nn.Module):
    """One gated layer of both stacks, of images, or one row or one pixel at a time. Source: figure 2."""

    def __init__(
        self, inputs: int, width: int, size: int, channels: int, read: ConditionProjections | None, *, first: bool
    ) -> None:
        super().__init__()
        self.first = first
        self.vertical = CausalConv2d(inputs, width, size, mask="above" if first else "row", gates=2)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = CausalConv2d(
            inputs, width, size, mask="A" if first else "B", above=0, channels=channels, gates=2
        )
        self.residual = CausalConv2d(width, width, 1, mask="B", channels=channels)
        self.condition_bias = None if read is None else read.projection(4 * width)

    def down(self, v: Tensor, y: Conditions | None) -> tuple[Tensor, Tensor]:
        """The vertical stack, and its link to the horizontal stack."""
        ungated = self.vertical(v)
        return gate(self.biased(ungated, y, 0)), self.link(ungated)

    def across(self, h: Tensor, link: Tensor, y: Conditions | None) -> Tensor:
        """The horizontal stack; the first layer has no residual connection, which would include the pixel itself."""
        out = self.residual(gate(self.biased(self.horizontal(h) + link, y, 1)))
        return out if self.first else h + out

    def biased(self, h: Tensor, y: Conditions | None, stack: int) -> Tensor:
        return h if self.condition_bias is None else h + per_channel(self.condition_bias(y).chunk(2, 1)[stack], h)


def gate(h: Tensor) -> Tensor:
    """tanh of the first half of the features times the sigmoid of the second."""
    f, g = h.chunk(2, 1)
    return f.tanh() * g.sigmoid()
