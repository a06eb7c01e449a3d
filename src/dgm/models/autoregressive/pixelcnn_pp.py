r"""PixelCNN++, exact log-likelihood.

.. math:: p(x_{ij}) = \sum_m \pi_m P_m(R) P_m(G | R) P_m(B | R, G), \qquad
    \mu_m(G) = \mu_m^G + \alpha_m R, \quad \mu_m(B) = \mu_m^B + \beta_m R + \gamma_m G

The network depends on whole earlier pixels, and the channels of a pixel share the component of a mixture of discretised
logistics. By the chain rule each channel has a mixture whose weights depend on the earlier channels:

.. math:: P(G | R) = \sum_m \pi_m(R) P_m(G | R), \qquad \pi_m(R) \propto \pi_m P_m(R)

Two streams, one for the rows above and one that includes the pixels to the left, are downsampled and upsampled again,
with skip connections. A map of half the resolution contains only complete rows and columns, so the most recent
pixels are only seen by the convolutions at full resolution: 4 ``layers`` pixels along the row, and the row above.

Source: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, equations 1 to 3 and figure 2; a pixel at a time by Fast
PixelCNN++ (Ramachandran et al., 2017), arXiv:1704.06001. Differs from it: its weight normalisation, but not in the
transposed convolutions, and with a data-independent initialisation, which trains faster (docs/log.md); as many blocks
on the way up as on the way down, where theirs has one more at the upper two resolutions; transposed convolutions of 2 x
2 in both streams; smaller by default, where theirs has 160 features, 5 blocks at each resolution, 10 components and
dropout of a half; independent channels of binary images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, dropout, elu

from dgm.distributions.output import DiscretisedLogistics, output_distribution
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, RowConv, cached
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.maps import Projection, of_pixel, of_row, per_channel, resized
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space

RowFeatures = Callable[[str], Tensor]  # the features of the stream of rows after a block, by its name


class PixelCNNPP(ChainRule):
    """log P(x) in nats.

    Args:
        space: Images (C, H, W) of grey levels, or binary ones with independent channels.

    Example:
        >>> model = PixelCNNPP(Space.levels((3, 4, 4), 8), PixelCNNPP.Config(width=8, layers=1, resolutions=2))
        >>> model.log_prob(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(32, "features of each stream", low=1)
        layers: int = setting(
            2, "gated blocks at each resolution, on the way down and again on the way up", low=1, high=1000
        )
        resolutions: int = setting(3, "resolutions, each half of the one before", low=1, high=6)
        components: int = setting(5, "components of the mixture of discretised logistics", low=1)
        dropout: float = setting(0.1, "dropout rate of features", low=0.0, high=0.95)

    spaces: ClassVar[set[str]] = {"binary", "levels"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 32, "lr": 1e-3, "ema": 0.999, "clip": 1.0}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if len(space.shape) != 3:
            raise BadInput(f"pixelcnn_pp takes images (C, H, W), got {space}", "use made for points and tables")
        if space.scale:
            raise BadInput("pixelcnn_pp takes grey levels without a scale for each pixel", "leave it out of the space")
        self.observed = output_distribution(space, config.components)
        self.scaling = Scaling(space)
        channels = space.shape[0]
        self.features = ConditionFeatures(condition, space.shape[1:])
        self.rows = Stream("rows", channels + 1, config, self.features.width)
        self.pixels = Stream("pixels", channels + 1, config, self.features.width)
        outputs = channels
        if space.kind == "levels":  # weights, then for each channel a mean and a scale, then the ties between channels
            outputs = config.components * (1 + 2 * channels + channels * (channels - 1) // 2)
        self.output = CausalConv2d(config.width, outputs, 1, mask="B", normed=True)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        features, above = self.condition_features(y), dict[str, Tensor]()
        self.rows(self.inputs(x), features, None, above)
        h = self.pixels(self.inputs(x), features, above.__getitem__, {})
        return torch.stack(list(self.tied(self.output(elu(h)).movedim(1, -1), x)), 1)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """One stream is computed row by row, the other pixel by pixel, and a resolution only when it has new inputs."""
        features, cursor, above = self.condition_features(y), Cursor(), dict[str, Tensor]()
        _, height, width = self.space.shape
        networks: list[Any] = [cached(self, kind, len(x), (height, width), cursor) for kind in (RowConv, PixelConv)]
        rows, pixels = networks[0].rows, networks[1].pixels
        rows.upsample, pixels.upsample = (
            nn.ModuleList(kind(upsample, halvings, cursor) for halvings, upsample in enumerate(stream.upsample))
            for kind, stream in ((UpsampleRow, rows), (UpsamplePixel, pixels))
        )

        def beside(block: str) -> Tensor:
            return above[block][:, :, 0, cursor.column >> int(block[0])]

        for cursor.row in range(height):
            row = slice(cursor.row, cursor.row + 1)
            rows(self.inputs(x[:, :, row]), [of_row(c, cursor.row >> k) for k, c in enumerate(features)], None, above)
            for cursor.column in range(width):
                pixel = x[:, :, row, cursor.column : cursor.column + 1]
                of_y = [of_pixel(c, cursor.row >> k, cursor.column >> k) for k, c in enumerate(features)]
                h = pixels(self.inputs(pixel)[:, :, 0, 0], of_y, beside, {})
                for outputs in self.tied(networks[1].output(elu(h))[:, None, None], pixel):
                    yield outputs[:, 0, 0]
                pixels.first.store(self.inputs(pixel)[:, :, 0, 0])
            rows.first.store(self.inputs(x[:, :, row]))

    def tied(self, raw: Tensor, x: Batch) -> Iterator[Tensor]:
        """Each channel's outputs (B, H, W, outputs) given the channels before it, of raw (B, H, W, ...).

        A channel of x is read when the next outputs are computed.
        """
        channels, m = self.space.shape[0], self.config.components
        if not isinstance(self.observed, DiscretisedLogistics):
            yield from raw[..., None].unbind(-2)
            return
        logits, mu, log_s, ties = raw.split([m, channels * m, channels * m, channels * (channels - 1) // 2 * m], -1)
        coefficients, seen = iter(ties.tanh().split(m, -1)), list[Tensor]()
        for c, (mu_c, log_s_c) in enumerate(zip(mu.split(m, -1), log_s.split(m, -1), strict=True)):
            for value in seen:
                mu_c = mu_c + next(coefficients) * value
            outputs = torch.cat([logits, mu_c, log_s_c], -1)
            yield outputs
            if c + 1 < channels:
                logits = logits + self.observed.log_components(outputs, x[:, c])
                seen.append(self.scaling(x[:, c])[..., None])

    def inputs(self, x: Batch) -> Tensor:
        """Scaled values, with a channel of ones that marks the image in its padding."""
        z = self.scaling(x)
        return torch.cat([z, torch.ones_like(z[:, :1])], 1)

    def condition_features(self, y: Conditions | None) -> list[Tensor | None]:
        """The condition at each resolution, as numbers (B, K) or as maps (B, K, H, W)."""
        y, sizes = self.checked(y), range(self.config.resolutions)
        if y is None:
            return [None for _ in sizes]
        c, (height, width) = self.features(y, self.output.bias), self.space.shape[1:]
        return [c if c.ndim == 2 else resized(c, (-(-height // 2**k), -(-width // 2**k))) for k in sizes]


class Stream(nn.Module):
    """A U-shaped stream of gated blocks, for the rows above or also for the pixels to the left. Source: figure 2.

    A block of the upsampling half has a skip connection from the same block of the downsampling half; a block of the
    stream of pixels has another from the stream of rows.
    """

    def __init__(self, kind: Literal["rows", "pixels"], inputs: int, config: PixelCNNPP.Config, numbers: int) -> None:
        super().__init__()
        self.resolutions, width, pixels = config.resolutions, config.width, kind == "pixels"
        if pixels:
            self.first = CausalConv2d(inputs, width, 3, above=1, mask="A", normed=True)
        else:
            self.first = CausalConv2d(inputs, width, 3, above=2, mask="above", normed=True)
        blocks = range(config.layers)
        self.down, self.up = (
            nn.ModuleList(
                nn.ModuleList(Block(kind, halvings, skips + pixels, config, numbers) for _ in blocks)
                for halvings in range(self.resolutions)
            )
            for skips in (0, 1)
        )
        self.downsample = nn.ModuleList(
            causal(kind, width, width, halvings, stride=2) for halvings in range(self.resolutions - 1)
        )
        self.upsample = nn.ModuleList(Upsample(width) for _ in range(self.resolutions - 1))

    def forward(
        self, x: Tensor, y: list[Tensor | None], rows: RowFeatures | None, features: dict[str, Tensor]
    ) -> Tensor:
        """The features after the last block; ``features`` is filled with those after each block."""
        return self.through(0, self.first(x), y, rows, features)

    def through(
        self, k: int, h: Tensor, y: list[Tensor | None], rows: RowFeatures | None, features: dict[str, Tensor]
    ) -> Tensor:
        down = []
        for name, block in named(self.down, k, "down"):
            h = features[name] = block(h, y[k], [] if rows is None else [rows(name)])
            down.append(h)
        if k + 1 < self.resolutions:
            low = self.downsample[k](h)
            # for a pixel or a row without a new input at the lower resolution, its last features are still valid
            h = self.upsample[k](None if low is None else self.through(k + 1, low, y, rows, features), h)
        for name, block in named(self.up, k, "up"):
            h = features[name] = block(h, y[k], [down.pop()] if rows is None else [down.pop(), rows(name)])
        return h


def named(blocks: Any, halvings: int, way: str) -> Iterator[tuple[str, Any]]:
    return ((f"{halvings} {way} {k}", block) for k, block in enumerate(blocks[halvings]))


class Block(nn.Module):
    """A gated residual block with ``skips`` skip connections. Source: the authors' published code."""

    def __init__(
        self, kind: Literal["rows", "pixels"], halvings: int, skips: int, config: PixelCNNPP.Config, numbers: int
    ) -> None:
        super().__init__()
        width, self.share = config.width, config.dropout
        self.enter = causal(kind, 2 * width, width, halvings)
        self.skips = nn.ModuleList(CausalConv2d(2 * width, width, 1, mask="B", normed=True) for _ in range(skips))
        self.leave = causal(kind, 2 * width, width, halvings, gates=2)
        self.condition_bias = Projection(numbers, 2 * width, bias=False) if numbers else None

    def forward(self, h: Tensor, y: Tensor | None, others: list[Tensor]) -> Tensor:
        inner = self.enter(concat_elu(h))
        for narrow, other in zip(self.skips, others, strict=True):
            inner = inner + narrow(concat_elu(other))
        ungated = self.leave(dropout(concat_elu(inner), self.share, self.training))
        if self.condition_bias is not None:
            ungated = ungated + per_channel(self.condition_bias(y), h)
        a, b = ungated.chunk(2, 1)
        return h + a * b.sigmoid()


def causal(
    kind: Literal["rows", "pixels"], inputs: int, outputs: int, halvings: int, *, stride: int = 1, gates: int = 1
) -> CausalConv2d:
    """2 x 3 over the row and the one above, or 2 x 2 over the pixel, its left and the same above."""
    rows = kind == "rows"
    return CausalConv2d(
        inputs,
        outputs,
        3,
        mask="row" if rows else "B",
        above=1,
        right=None if rows else 0,
        stride=stride,
        halvings=halvings,
        gates=gates,
        normed=True,
    )


def concat_elu(h: Tensor) -> Tensor:
    """Source: arXiv:1603.05201, with elu in place of the rectifier."""
    return elu(torch.cat([h, -h], 1))


class Upsample(nn.ConvTranspose2d):
    """Upsampling by a factor of 2: four linear maps at each position, cropped to the size of ``like``."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 2, stride=2)

    def forward(self, low: Tensor, like: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(low)[..., : like.shape[-2], : like.shape[-1]]


class UpsampleRow(nn.Module):
    """`Upsample` to the cursor's row, from the last row that there was below."""

    def __init__(self, upsample: Upsample, halvings: int, cursor: Cursor) -> None:
        super().__init__()
        self.upsample, self.halvings, self.cursor = upsample, halvings, cursor
        self.two_rows: Tensor

    def forward(self, low: Tensor | None, like: Tensor) -> Tensor:
        if low is not None:
            self.two_rows = conv_transpose2d(low, self.upsample.weight, self.upsample.bias, stride=2)
        odd = self.cursor.row >> self.halvings & 1
        return self.two_rows[:, :, odd : odd + 1, : like.shape[-1]]


class UpsamplePixel(nn.Module):
    """`Upsample` to the cursor's pixel, from the last pixels that there were below, one for each column."""

    def __init__(self, upsample: Upsample, halvings: int, cursor: Cursor) -> None:
        super().__init__()
        self.upsample, self.halvings, self.cursor = upsample, halvings, cursor
        self.four: dict[int, Tensor] = {}

    def forward(self, low: Tensor | None, like: Tensor) -> Tensor:
        row, column = self.cursor.row >> self.halvings, self.cursor.column >> self.halvings
        if low is not None:
            self.four[column >> 1] = conv_transpose2d(low[..., None, None], self.upsample.weight, self.upsample.bias)
        return self.four[column >> 1][..., row & 1, column & 1]
