r"""PixelCNN++, exact log-likelihood.

.. math:: p(x_{ij}) = \sum_m \pi_m P_m(R) P_m(G | R) P_m(B | R, G), \qquad
    \mu_m(G) = \mu_m^G + \alpha_m R, \quad \mu_m(B) = \mu_m^B + \beta_m R + \gamma_m G

The network sees whole earlier pixels, and the channels of a pixel are tied by a mixture of discretised logistics whose
component they share. By the chain rule that is one mixture a channel, with weights that what was seen has changed:

.. math:: P(G | R) = \sum_m \pi_m(R) P_m(G | R), \qquad \pi_m(R) \propto \pi_m P_m(R)

Two streams, of the rows above and of what is left in the row too, go down to lower resolutions and up again, with
short-cuts between.

Source: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, equations 1 to 3 and figure 2; a pixel at a time by Fast
PixelCNN++ (Ramachandran et al., 2017), arXiv:1704.06001.
Differs from it: no weight normalisation; what goes up is repeated where theirs is a transposed convolution; two blocks
a level by default, theirs are five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, elu, one_hot

from dgm.distributions.elementwise import DiscretisedLogistics, elementwise
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.networks.causal_conv import CausalConv2d, Cursor, PixelConv, RowConv, cached
from dgm.networks.embeddings import check_labels
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space

Told = Callable[[str], Tensor]  # what the stream of the rows above says at a block


class PixelCNNPP(nn.Module):
    """log P(x) in nats.

    Args:
        space: Images (C, H, W) of levels, or binary ones, whose channels are then not tied.

    Example:
        >>> model = PixelCNNPP(Space.levels((3, 4, 4), 8), PixelCNNPP.Config(width=8, layers=1, levels=2))
        >>> model.log_prob(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(32, "features of each stream", low=1)
        layers: int = setting(2, "gated blocks a level, on the way down and again on the way up", low=1)
        levels: int = setting(3, "resolutions, each half of the one before", low=1, high=6)
        components: int = setting(5, "of the mixture of discretised logistics", low=1)
        dropout: float = setting(0.1, "share of features left out in training", low=0.0, high=0.95)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 32, "lr": 1e-3, "ema": 0.999, "clip": 1.0}
    likelihood_method = "chain rule, one pass"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        if len(space.shape) != 3:
            raise BadInput(f"pixelcnn_pp takes images (C, H, W), got {space}", "use made for points and tables")
        self.space, self.config = space, config
        self.observed = elementwise(space, config.components)
        self.scaling = Scaling(space)
        channels = space.shape[0]
        self.rows = Stream("rows", channels + 1, config)
        self.pixels = Stream("pixels", channels + 1, config)
        outputs = channels
        if space.kind == "levels":  # weights, then for each channel a mean and a scale, then the ties between channels
            outputs = config.components * (1 + 2 * channels + channels * (channels - 1) // 2)
        self.output = CausalConv2d(config.width, outputs, 1, mask="B")

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y)

    def conditionals(self, x: Batch, y: Labels | None = None) -> Tensor:
        label, told = self.label(y), dict[str, Tensor]()
        self.rows(self.inputs(x), label, None, told)
        h = self.pixels(self.inputs(x), label, told.__getitem__, {})
        return self.tied(self.output(elu(h)).movedim(1, -1), x)

    def steps(self, x: Batch, y: Labels | None = None) -> Iterator[Tensor]:
        """One stream is computed a row at a time, the other a pixel at a time, each level when it has something new."""
        label, cursor, told = self.label(y), Cursor(), dict[str, Tensor]()
        channels, height, width = self.space.shape
        copies: list[Any] = [cached(self, kind, len(x), (height, width), cursor) for kind in (RowConv, PixelConv)]
        rows, pixels = copies[0].rows, copies[1].pixels
        for grown, keep in ((rows, KeptRow), (pixels, KeptPixel)):
            grown.grow = [keep(level, cursor) for level in range(self.config.levels - 1)]

        def beside(block: str) -> Tensor:
            return told[block][:, :, 0, cursor.column >> int(block[0])]

        for cursor.row in range(height):
            row = slice(cursor.row, cursor.row + 1)
            rows(self.inputs(x[:, :, row]), label, None, told)
            for cursor.column in range(width):
                pixel = x[:, :, row, cursor.column : cursor.column + 1]
                h = pixels(self.inputs(pixel)[:, :, 0, 0], label, beside, {})
                raw = copies[1].output(elu(h))[:, None, None]
                for c in range(channels):
                    yield self.tied(raw, pixel)[:, c, 0, 0]
                pixels.first.remember(self.inputs(pixel)[:, :, 0, 0])
            rows.first.remember(self.inputs(x[:, :, row]))

    def tied(self, raw: Tensor, x: Batch) -> Tensor:
        """Each channel's outputs given the channels before it, (B, C, H, W, outputs), of raw (B, H, W, ...)."""
        channels, m = self.space.shape[0], self.config.components
        if not isinstance(self.observed, DiscretisedLogistics):
            return raw.movedim(-1, 1)[..., None]
        ties = channels * (channels - 1) // 2
        sizes = [m, channels * m, channels * m, ties * m]
        log_pi, mu, log_s, tie = raw.split(sizes, -1)
        log_pi, ties_left, outputs = log_pi.log_softmax(-1), iter(tie.tanh().split(m, -1)), []
        z = self.scaling(x)
        for c, (mu_c, log_s_c) in enumerate(zip(mu.split(m, -1), log_s.split(m, -1), strict=True)):
            for before in range(c):
                mu_c = mu_c + next(ties_left) * z[:, before, ..., None]
            outputs.append(torch.cat([log_pi, mu_c, log_s_c], -1))
            log_pi = (log_pi + self.observed.log_components(outputs[-1], x[:, c])).log_softmax(-1)
        return torch.stack(outputs, 1)

    def inputs(self, x: Batch) -> Tensor:
        """Scaled values, and ones that tell the image from its padding."""
        z = self.scaling(x)
        return torch.cat([z, torch.ones_like(z[:, :1])], 1)

    def label(self, y: Labels | None) -> Tensor | None:
        y = check_labels(y, self.config.classes)
        return None if y is None else one_hot(y, self.config.classes).float()

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)


class Stream(nn.Module):
    """A U of gated blocks, over the rows above alone or over what is left in the row too. Source: figure 2.

    A block on the way up is told what its twin on the way down had; one of the pixels' stream is told what the rows'
    stream has at its place too.
    """

    def __init__(self, kind: Literal["rows", "pixels"], inputs: int, config: PixelCNNPP.Config) -> None:
        super().__init__()
        self.levels, width, pixels = config.levels, config.width, kind == "pixels"
        if pixels:
            self.first = CausalConv2d(inputs, width, 3, above=1, mask="A")
        else:
            self.first = CausalConv2d(inputs, width, 3, above=2, mask="above")
        blocks = range(config.layers)
        self.down, self.up = (
            nn.ModuleList(
                nn.ModuleList(Block(kind, level, told + pixels, config) for _ in blocks) for level in range(self.levels)
            )
            for told in (0, 1)
        )
        self.shrink = nn.ModuleList(causal(kind, width, width, level, stride=2) for level in range(self.levels - 1))
        self.grow: Any = [grown] * (self.levels - 1)

    def forward(self, x: Tensor, label: Tensor | None, told: Told | None, says: dict[str, Tensor]) -> Tensor:
        """The last features; ``says`` gets those after each block."""
        return self.level(0, self.first(x), label, told, says)

    def level(self, k: int, h: Tensor, label: Tensor | None, told: Told | None, says: dict[str, Tensor]) -> Tensor:
        twins = []
        for name, block in named(self.down, k, "down"):
            h = says[name] = block(h, label, [] if told is None else [told(name)])
            twins.append(h)
        if k + 1 < self.levels:
            low = self.shrink[k](h)
            # at a pixel or a row that the level below skips, what it had last still holds
            h = self.grow[k](None if low is None else self.level(k + 1, low, label, told, says), h)
        for name, block in named(self.up, k, "up"):
            h = says[name] = block(h, label, [twins.pop()] if told is None else [twins.pop(), told(name)])
        return h


def named(blocks: Any, level: int, way: str) -> Iterator[tuple[str, Any]]:
    return ((f"{level} {way} {k}", block) for k, block in enumerate(blocks[level]))


class Block(nn.Module):
    """A gated residual block that is told ``more`` other features. Source: the authors' published code."""

    def __init__(self, kind: Literal["rows", "pixels"], level: int, more: int, config: PixelCNNPP.Config) -> None:
        super().__init__()
        width, self.share = config.width, config.dropout
        self.enter = causal(kind, 2 * width, width, level)
        self.told = nn.ModuleList(CausalConv2d(2 * width, width, 1, mask="B") for _ in range(more))
        self.leave = causal(kind, 2 * width, width, level, gates=2)
        self.label = nn.Linear(config.classes, 2 * width, bias=False) if config.classes else None

    def forward(self, h: Tensor, label: Tensor | None, told: list[Tensor]) -> Tensor:
        inner = self.enter(concat_elu(h))
        for narrow, other in zip(self.told, told, strict=True):
            inner = inner + narrow(concat_elu(other))
        ungated = self.leave(dropout(concat_elu(inner), self.share, self.training))
        if self.label is not None and label is not None:
            bias = self.label(label)
            ungated = ungated + bias.view(*bias.shape, *[1] * (h.ndim - 2))
        a, b = ungated.chunk(2, 1)
        return h + a * b.sigmoid()


def causal(
    kind: Literal["rows", "pixels"], inputs: int, outputs: int, level: int, *, stride: int = 1, gates: int = 1
) -> CausalConv2d:
    """2 x 3 over the row and the one above, or 2 x 2 over the pixel, its left and the same above."""
    if kind == "rows":
        return CausalConv2d(inputs, outputs, 3, mask="row", above=1, level=level, stride=stride, gates=gates)
    return CausalConv2d(inputs, outputs, 3, mask="B", above=1, right=0, level=level, stride=stride, gates=gates)


def concat_elu(h: Tensor) -> Tensor:
    """Source: arXiv:1603.05201, with elu in place of the rectifier."""
    return elu(torch.cat([h, -h], 1))


def grown(low: Tensor, like: Tensor) -> Tensor:
    """Every value four times, cut to the size of ``like``."""
    return low.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., : like.shape[-2], : like.shape[-1]]


class KeptRow:
    """`grown`, a row at a time."""

    def __init__(self, level: int, cursor: Cursor) -> None:
        self.kept: Tensor

    def __call__(self, low: Tensor | None, like: Tensor) -> Tensor:
        if low is not None:
            self.kept = low.repeat_interleave(2, -1)
        return self.kept[..., : like.shape[-1]]


class KeptPixel:
    """`grown`, a pixel at a time."""

    def __init__(self, level: int, cursor: Cursor) -> None:
        self.level, self.cursor = level + 1, cursor
        self.kept: dict[int, Tensor] = {}

    def __call__(self, low: Tensor | None, like: Tensor) -> Tensor:
        column = self.cursor.column >> self.level
        if low is not None:
            self.kept[column] = low
        return self.kept[column]
