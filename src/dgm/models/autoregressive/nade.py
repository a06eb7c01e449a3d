r"""Neural autoregressive distribution estimator, exact log-likelihood.

.. math:: p(x_d = 1 | x_{<d}) = \sigma(V_d h_d + b_d), \qquad h_d = \sigma(c + \sum_{j<d} W_j x_j)

Hidden layers share their weights, so h_{d+1} comes from h_d by one addition and the whole likelihood costs O(D H). Real
numbers are RNADE's: a mixture of normals whose parameters are linear in the hidden layer, h_d = sigma(rho_d a_d).

Source: The neural autoregressive distribution estimator (Larochelle & Murray, 2011), equations 10 and 11; for real
numbers RNADE (Uria, Murray & Larochelle, 2013), arXiv:1306.0186, equations 5 to 11.
Differs from it: sigmoids where RNADE ended with rectifiers, which let scales grow without bound far from the data;
unordered values take a softmax, levels a mixture of discretised logistics; labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dgm.distributions.elementwise import elementwise
from dgm.distributions.features import Features
from dgm.networks.embeddings import check_labels
from dgm.networks.raster import from_sequence, reading_order, to_sequence
from dgm.protocols import Batch, Labels, PerExample, State
from dgm.samplers import sequential
from dgm.seeds import Seed
from dgm.settings import setting
from dgm.space import Space

BLOCK = 28  # dimensions whose hidden layers are computed together: few enough to stay in the cache


class NADE(nn.Module):
    """log p(x) in nats: of a probability on discrete data, of a density in the data's units otherwise.

    Args:
        space: Any; images are read row by row, a pixel's channels together.

    Example:
        >>> nade = NADE(Space.binary((4,)), NADE.Config(hidden=8))
        >>> nade.log_prob(torch.zeros(2, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(500, "H, hidden units", low=1)
        components: int = setting(5, "of the mixtures, for levels and real numbers", low=1)
        classes: int = setting(0, "labels to condition on; 0 trains without", low=0)

    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "lr": 1e-3, "ema": 0.999}
    likelihood_method = "chain rule, one pass"

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.observed = elementwise(space, config.components)
        self.features = Features(space)
        d, h, inputs, outputs = space.dim, config.hidden, self.features.width, self.observed.outputs
        self.W = nn.Parameter(torch.randn(d, inputs, h) / (d * inputs) ** 0.5)
        self.c = nn.Parameter(torch.zeros(h))
        self.V = nn.Parameter(torch.randn(d, h, outputs) / h**0.5)
        self.b = nn.Parameter(torch.zeros(d, outputs))
        self.rho = None if space.discrete else nn.Parameter(torch.ones(d))
        self.label = nn.Embedding(config.classes, h) if config.classes else None

    def log_prob(self, x: Batch, y: Labels | None = None) -> PerExample:
        return self.observed.log_prob(self.conditionals(x, y), x).flatten(1).sum(1)

    def loss(self, x: Batch, y: Labels | None = None) -> PerExample:
        return -self.log_prob(x, y)

    def conditionals(self, x: Batch, y: Labels | None = None) -> Tensor:
        """Block by block: within one, sums over earlier dimensions are a product with masked inputs."""
        seen, a, outputs = to_sequence(self.features(x), self.space), self.first(len(x), y), []
        for start in range(0, self.space.dim, BLOCK):
            block = slice(start, start + BLOCK)
            inputs, W = seen[:, block], self.W[block]
            size = len(W)
            earlier = torch.ones(size, size, device=W.device).tril(-1)
            masked = (inputs * earlier[:, None, :, None]).flatten(2)  # (block, B, block * inputs)
            sums = a + masked @ W.flatten(0, 1)
            h = self.hidden(sums, None if self.rho is None else self.rho[block, None, None])
            outputs.append(torch.baddbmm(self.b[block, None], h, self.V[block]))
            a = a + inputs.flatten(1) @ W.flatten(0, 1)
        return from_sequence(torch.cat(outputs).transpose(0, 1), self.space)

    def steps(self, x: Batch, y: Labels | None = None) -> Iterator[Tensor]:
        """Keeps the sum c + W x over what was read."""
        a, flat = self.first(len(x), y), x.view(len(x), -1)
        for i, dim in enumerate(reading_order(self.space)):
            h = self.hidden(a, None if self.rho is None else self.rho[i])
            yield torch.addmm(self.b[i], h, self.V[i])
            a = torch.addmm(a, self.features(flat[:, dim], dim), self.W[i])

    def first(self, n: int, y: Labels | None) -> Tensor:
        """What hidden units sum before anything is seen, (n, H)."""
        y = check_labels(y, self.config.classes)
        return self.c.expand(n, -1) if self.label is None else self.c + self.label(y)

    def hidden(self, sums: Tensor, rho: Tensor | None) -> Tensor:
        return sums.sigmoid() if rho is None else (rho * sums).sigmoid()

    def trajectory(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Iterator[State]:
        return sequential.trajectory(self, n, y, seed=seed)

    def sample(self, n: int, y: Labels | None = None, *, seed: Seed = None) -> Batch:
        return sequential.sample(self, n, y, seed=seed)
