r"""Neural autoregressive distribution estimator, exact log-likelihood.

.. math:: p(x_d = 1 | x_{<d}) = \sigma(V_d h_d + b_d), \qquad h_d = \sigma(c + \sum_{j<d} W_j x_j)

Hidden layers share their weights, so h_{d+1} follows from h_d by one addition and the likelihood costs O(D H). Real
numbers as in RNADE: a mixture of normals whose parameters are linear in the hidden layer, h_d = sigma(rho_d a_d).

Source: The neural autoregressive distribution estimator (Larochelle & Murray, 2011), equations 10 and 11; for real
numbers RNADE (Uria, Murray & Larochelle, 2013), arXiv:1306.0186, equations 5 to 11.
Differs from it: sigmoids in place of RNADE's rectifiers, whose scales are unbounded far from the data; a softmax for
unordered values, a mixture of discretised logistics for grey levels; conditions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from dgm.distributions.features import features
from dgm.distributions.output import output_distribution
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.conditioning import condition_vector
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions
from dgm.settings import setting
from dgm.space import Space

BLOCK = 32  # dimensions at most whose hidden layers are computed together
CACHE = 1 << 18  # hidden units that fit into the cache of a core together with their gradients


class NADE(ChainRule):
    """log p(x) in nats: of a probability on discrete data, of a density in the data's units otherwise.

    Args:
        space: Any space; images are in raster order.

    Example:
        >>> nade = NADE(Space.binary((4,)), NADE.Config(hidden=8))
        >>> nade.log_prob(torch.zeros(2, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(500, "H, hidden units", low=1)
        components: int = setting(5, "components of the mixtures, for grey levels and real numbers", low=1)

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens", "categories", "continuous", "record"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "lr": 1e-3, "ema": 0.999}

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        self.observed = output_distribution(space, config.components)
        self.features = features(space)
        d, h, inputs, outputs = space.dim, config.hidden, self.features.width, self.observed.outputs
        self.W = nn.Parameter(torch.randn(d, inputs, h) / (d * inputs) ** 0.5)
        self.c = nn.Parameter(torch.zeros(h))
        self.V = nn.Parameter(torch.randn(d, h, outputs) / h**0.5)
        self.b = nn.Parameter(torch.zeros(d, outputs))
        self.rho = None if space.discrete else nn.Parameter(torch.ones(d))
        self.condition_bias = condition_vector(condition, h)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        seen = to_sequence(self.features(x), self.space)
        size = block_size(len(x), self.config.hidden, seen.device)
        with torch.autocast(seen.device.type, enabled=False):
            read = Outputs.apply(seen, self.first(len(x), y), self.W, self.V, self.rho, size) + self.b[:, None]
        return from_sequence(read.transpose(0, 1), self.space)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        """Caches the sum c + W x over earlier dimensions."""
        a, flat = self.first(len(x), y), x.view(len(x), -1)
        for i, dim in enumerate(raster_order(self.space)):
            h = hidden(a, None if self.rho is None else self.rho[i])
            yield torch.addmm(self.b[i], h, self.V[i])
            a = torch.addmm(a, self.features(flat[:, dim], dim), self.W[i])

    def first(self, n: int, y: Conditions | None) -> Tensor:
        """The sums of hidden units without inputs, (n, H)."""
        y = self.checked(y)
        return self.c.expand(n, -1) if self.condition_bias is None else self.c + self.condition_bias(y)


class Outputs(torch.autograd.Function):
    r"""h_d V_d of every dimension, with a manual derivative.

    All hidden layers together, (D, B, H), are far larger than the tensors that they are computed from. Neither pass
    stores them: each computes them block by block and completes a block while it is in the cache. With g_d the gradient
    of h_d V_d,

    .. math:: \delta_d = (g_d V_d^T) \odot h_d \odot (1 - h_d), \quad G_j = \sum_{d>j} \rho_d \delta_d, \quad
        \partial V_d = h_d^T g_d, \quad \partial W_j = x_j^T G_j, \quad \partial x_j = G_j W_j^T, \quad
        \partial \rho_d = \langle \delta_d, a_d \rangle

    Source: algorithm 1 of Larochelle & Murray, 2011, for one block of dimensions at a time.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, a: Tensor, W: Tensor, V: Tensor, rho: Tensor | None, size: int) -> Tensor:
        """x (B, D, inputs), a (B, H) before the first dimension, W (D, inputs, H), V (D, H, outputs) and rho (D,)."""
        outputs, carried, room = x.new_empty(len(W), len(a), V.shape[2]), [], x.new_empty(size, *a.shape)
        for block in blocks(len(W), size):
            carried.append(a)
            h = hidden_(sums(earlier(x[:, block]), W[block], a, room), of(rho, block))
            torch.bmm(h, V[block], out=outputs[block])
            a = torch.addmm(a, x[:, block].flatten(1), W[block].flatten(0, 1))
        ctx.save_for_backward(x, W, V, *carried, *([] if rho is None else [rho]))
        ctx.size = size  # type: ignore[attr-defined]
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor | None, ...]:
        x, W, V, *carried = ctx.saved_tensors  # type: ignore[attr-defined]
        order = blocks(len(W), ctx.size)  # type: ignore[attr-defined]
        rho = carried.pop() if len(carried) > len(order) else None
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        d_W, d_V, d_rho = torch.empty_like(W), torch.empty_like(V), None if rho is None else torch.empty_like(rho)
        G = torch.zeros_like(carried[0])
        room, other = x.new_empty(2, order[0].stop, *G.shape)
        for block, a in zip(reversed(order), reversed(carried), strict=True):
            read, weight = earlier(x[:, block]), W[block].flatten(0, 1)
            a_d = sums(read, W[block], a, room)
            h = hidden_(a_d if rho is None else a_d.clone(), of(rho, block))
            torch.bmm(g[block].mT, h, out=d_V[block].mT)
            delta = torch.bmm(g[block], V[block].mT, out=other[: len(h)])
            torch.ops.aten.sigmoid_backward.grad_input(delta, h, grad_input=delta)
            if rho is not None and d_rho is not None:
                d_rho[block] = (delta * a_d).sum((1, 2))
                delta *= rho[block, None, None]
            d_weight = torch.mm(read.flatten(0, 1).mT, delta.flatten(0, 1), out=d_W[block].flatten(0, 1))
            d_weight.addmm_(x[:, block].flatten(1).mT, G)
            if d_x is not None:
                later = (delta @ weight.mT).unflatten(2, W[block].shape[:2]) * before(len(W[block]), x)
                d_x[:, block] = later.sum(0) + (G @ weight.mT).unflatten(1, W[block].shape[:2])
            G += delta.sum(0)
        return d_x, G, d_W, d_V, d_rho, None


def blocks(dim: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, dim, size)]


def block_size(n: int, hidden: int, device: torch.device) -> int:
    """The number of dimensions whose hidden units fit into the cache; on a GPU, enough to use the whole device."""
    return BLOCK if device.type != "cpu" else max(1, min(BLOCK, CACHE // (n * hidden)))


def of(rho: Tensor | None, block: slice) -> Tensor | None:
    return None if rho is None else rho[block, None, None]


def hidden(a: Tensor, rho: Tensor | None) -> Tensor:
    return a.sigmoid() if rho is None else (rho * a).sigmoid()


def before(size: int, x: Tensor) -> Tensor:
    """1 where the second dimension of a block comes before the first, (size, 1, size, 1)."""
    return torch.ones(size, size, dtype=x.dtype, device=x.device).tril(-1)[:, None, :, None]


def earlier(x: Tensor) -> Tensor:
    """The earlier dimensions of the block for each of its dimensions: (B, size, inputs) to (size, B, size * inputs)."""
    return (x * before(x.shape[1], x)).flatten(2)


def sums(read: Tensor, W: Tensor, a: Tensor, room: Tensor) -> Tensor:
    """a_d of each dimension of a block, (size, B, H), from the ``a`` of its first, into ``room``."""
    out = room[: len(W)]
    torch.mm(read.flatten(0, 1), W.flatten(0, 1), out=out.flatten(0, 1))
    return out.add_(a)


def hidden_(a: Tensor, rho: Tensor | None) -> Tensor:
    return a.sigmoid_() if rho is None else a.mul_(rho).sigmoid_()
