r"""PixelCNN, exact log-likelihood.

.. math:: \log p(x) = \sum_{ij} \sum_{c} \log p(x_{ij}^c | x_{<ij}, x_{ij}^{<c})

A stack of masked convolutions sees the pixels above and to the left. Stacked 3 x 3 masks leave a blind spot: a wedge of
pixels above and to the right that no path through the layers reaches.

Source: Pixel recurrent neural networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), arXiv:1601.06759, equations 1
and 2, section 3.3 and figure 5.
Differs from it: a mixture of discretised logistics where ``components`` asks for one; no label in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, cached
from dgm.networks.embeddings import check_labels
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space


class PixelCNN(nn.Module):
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
        components: int = setting(0, "of discretised logistics; 0 is a softmax over all levels", low=0)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 1e-3, "ema": 0.999, "clip": 1.0}
    likelihood_method = "chain rule, one pass"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        if len(space.shape) != 3:
            raise BadInput(f"pixelcnn takes images (C, H, W), got {space}", "use made for points and tables")
        self.space, self.config = space, config
        self.observed = output_distribution(space, config.components)
        self.scaling = Scaling(space)
        self.network = Network(space.shape[0], self.observed.outputs, config)

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y)

    def conditionals(self, x: Batch, y: Labels | None = None) -> Tensor:
        outputs = self.network(self.scaling(x), check_labels(y, self.config.classes))
        return outputs.unflatten(1, (self.space.shape[0], -1)).movedim(2, -1)

    def steps(self, x: Batch, y: Labels | None = None) -> Iterator[Tensor]:
        """Every layer remembers its features of the pixels that were read, and computes those of one more."""
        y, cursor, (channels, height, width) = check_labels(y, self.config.classes), Cursor(), self.space.shape
        network: Any = cached(self.network, PixelConv, len(x), (height, width), cursor)
        for cursor.row in range(height):
            for cursor.column in range(width):
                for c in range(channels):
                    yield network(self.pixel(x, cursor), y).unflatten(1, (channels, -1))[:, c]
                network.first.remember(self.pixel(x, cursor))

    def pixel(self, x: Batch, cursor: Cursor) -> Tensor:
        return self.scaling(x[:, :, cursor.row, cursor.column])

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)


class Network(nn.Module):
    """A 7 x 7 convolution of mask A, residual blocks of mask B, two 1 x 1 layers. Of images, or of one pixel."""

    def __init__(self, channels: int, outputs: int, config: PixelCNN.Config) -> None:
        super().__init__()
        h = config.width
        self.first = CausalConv2d(channels, 2 * h, 7, mask="A", channels=channels)
        self.label = nn.Embedding(config.classes, 2 * h) if config.classes else None
        self.blocks = nn.ModuleList(Residual(h, channels) for _ in range(config.layers))
        self.hidden = CausalConv2d(2 * h, config.head, 1, mask="B", channels=channels)
        self.output = CausalConv2d(config.head, channels * outputs, 1, mask="B", channels=channels)

    def forward(self, x: Tensor, y: Labels | None) -> Tensor:
        """(B, C, H, W) to (B, C * outputs, H, W), or (B, C) to (B, C * outputs)."""
        h = self.first(x)
        if self.label is not None:
            label = self.label(y)
            h = h + label.view(*label.shape, *[1] * (h.ndim - 2))
        for block in self.blocks:
            h = h + block(h)
        return self.output(relu(self.hidden(relu(h))))


class Residual(nn.Module):
    """2 h features to h, a 3 x 3 convolution, and back; what is added to the stream."""

    def __init__(self, h: int, channels: int) -> None:
        super().__init__()
        self.down = CausalConv2d(2 * h, h, 1, mask="B", channels=channels)
        self.conv = CausalConv2d(h, h, 3, mask="B", channels=channels)
        self.up = CausalConv2d(h, 2 * h, 1, mask="B", channels=channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.up(relu(self.conv(relu(self.down(relu(h))))))
