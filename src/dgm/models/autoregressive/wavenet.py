r"""WaveNet, exact log-likelihood.

.. math:: \log p(x|y) = \sum_t \log p(x_t | x_{<t}, y), \qquad
    z = \tanh(W_f * h + V_f^T y) \odot \sigma(W_g * h + V_g^T y)

A stack of causal convolutions of kernel size two, whose dilation doubles from layer to layer within a cycle: with c
cycles of k layers, a sample depends on c (2^k - 1) + 1 samples before it.

Source: WaveNet (van den Oord et al., 2016), arXiv:1609.03499, equations 1 to 3 and figure 4; cached sampling, Fast
WaveNet (Le Paine et al., 2016), arXiv:1611.09482.
Differs from it: with ``components``, a mixture of discretised logistics, as in arXiv:1711.10433.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from dgm.distributions.output import output_distribution
from dgm.distributions.scaling import Scaling
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.conditioning import ConditionProjections
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting
from dgm.space import Space


class WaveNet(ChainRule):
    """log p(x) in nats, of a probability on discrete data, of a density in the data's units otherwise.

    Args:
        space: Any, such as the 256 companded levels of sound (1, L); all else is read in raster order.

    Example:
        >>> model = WaveNet(Space.levels((1, 32), 256), WaveNet.Config(width=4, skip=8, layers=3, cycles=1))
        >>> model.receptive_field
        8
        >>> model.sample(2, seed=0).shape
        torch.Size([2, 1, 32])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(32, "features of the residual stream", low=1)
        skip: int = setting(128, "features of the skip connections", low=1)
        layers: int = setting(9, "layers of a cycle; the last one's dilation is 2^(layers - 1)", low=1, high=20)
        cycles: int = setting(2, "how many times the dilations double from 1", low=1, high=1000)
        components: int = setting(0, "of discretised logistics; 0 is a softmax over all levels", low=0)

    defaults: ClassVar[dict[str, Any]] = {"batch": 4, "lr": 2e-3, "ema": 0.995, "clip": 1.0, "warmup": 50}
    loss_unit = "nats a dimension"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.observed = output_distribution(space, config.components)
        self.scaling = None if space.discrete else Scaling(space)
        self.entrance = nn.Embedding(space.values, config.width) if space.values else nn.Linear(1, config.width)
        dilations = [2**k for k in range(config.layers)] * config.cycles
        self.read = None if condition is None else ConditionProjections(condition)
        self.layers: Iterable[Any] = nn.ModuleList(
            Layer(config.width, config.skip, dilation, self.read) for dilation in dilations
        )
        self.hidden = nn.Linear(config.skip, config.skip)
        self.output = nn.Linear(config.skip, self.observed.outputs)

    @property
    def receptive_field(self) -> int:
        """How many earlier values a value depends on."""
        return self.config.cycles * (2**self.config.layers - 1) + 1

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return -self.log_prob(x, y) / self.space.dim

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        y = self.embedded(y)
        values = to_sequence(x if self.scaling is None else self.scaling(x), self.space)
        stream = pad(self.entered(values[:, :-1]), (0, self.config.skip, 1, 0))  # the first value has no earlier values
        for layer in self.layers:
            h = stream[..., : self.config.width]
            past = pad(h[:, : -layer.dilation], (0, 0, min(layer.dilation, h.shape[1]), 0))
            stream = layer(stream, h, past, y)
        return from_sequence(self.left(stream[..., self.config.width :]), self.space)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Each layer caches its inputs for as long as its dilation; all skip connections are one product."""
        y, flat, width = self.embedded(y), x.view(len(x), -1), self.config.width
        cells = [Cell(layer, len(x), width, y) for layer in self.layers]
        skip = torch.cat([layer.out.weight[width:] for layer in self.layers], 1).mT
        bias = torch.stack([layer.out.bias[width:] for layer in self.layers]).sum(0)
        first = self.hidden.weight.new_zeros(len(x), width)
        h, zs = first, [first] * len(cells)
        for dim in raster_order(self.space):
            for k, cell in enumerate(cells):
                h, zs[k] = cell(h)
            yield self.left(torch.addmm(bias, torch.cat(zs, 1), skip))
            value = flat[:, dim]
            h = self.entered(value if self.scaling is None else self.scaling(value, dim))

    def left(self, skipped: Tensor) -> Tensor:
        """The outputs. Source: figure 4."""
        return self.output(relu(self.hidden(relu(skipped))))

    def entered(self, values: Tensor) -> Tensor:
        return self.entrance(values.long() if self.scaling is None else values[..., None])


class Layer(nn.Module):
    """One gated layer, for a sequence or for one position of it. Source: equation 3 and figure 4.

    The first features of the stream are the residual ones, the others are those of the skip connections.
    """

    def __init__(self, width: int, skip: int, dilation: int, read: ConditionProjections | None) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = nn.Linear(2 * width, 2 * width)
        self.out = nn.Linear(width, width + skip)
        self.condition_bias = None if read is None else read.projection(2 * width)

    def forward(self, stream: Tensor, h: Tensor, past: Tensor, y: Conditions | None) -> Tensor:
        """(..., width + skip), its residual features, and the residual features one dilation earlier, (..., width)."""
        ungated = self.taps(torch.cat([past, h], -1))
        if self.condition_bias is not None:
            bias = self.condition_bias(y)
            ungated = ungated + bias.view(len(bias), *[1] * (stream.ndim - 2), -1)
        f, g = ungated.chunk(2, -1)
        return stream + self.out(f.tanh() * g.sigmoid())


class Cell:
    """A `Layer` for one position after the other: (n, width) to the next layer's (n, width), and z.

    Its queue contains the contributions of earlier inputs to the gates one dilation later, including V^T y and the
    bias.
    """

    def __init__(self, layer: Any, n: int, width: int, y: Conditions | None) -> None:
        bias = layer.taps.bias if layer.condition_bias is None else layer.taps.bias + layer.condition_bias(y)
        self.bias = bias.expand(n, -1)
        self.past, self.now = (taps.mT.contiguous() for taps in layer.taps.weight.split(width, 1))
        self.out, self.out_bias = layer.out.weight[:width].mT.contiguous(), layer.out.bias[:width]
        self.queue = deque([self.bias] * layer.dilation)

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        self.queue.append(torch.addmm(self.bias, h, self.past))
        f, g = torch.addmm(self.queue.popleft(), h, self.now).chunk(2, -1)
        z = f.tanh() * g.sigmoid()
        return torch.addmm(h + self.out_bias, z, self.out), z
