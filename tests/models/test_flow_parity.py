"""MAF, NSF and RealNVP with the weights of zuko's and nflows' models, whose densities they then have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgm.models.flow.maf import MAF
from dgm.models.flow.nsf import NSF
from dgm.space import Space
from dgm.transforms import Affine, Autoregressive, RationalQuadratic, Univariate, VectorCoupling, alternating
from dgm.transforms.splines import SMALLEST

DIM, LAYERS, HIDDEN, BINS = 5, 3, [32, 32], 8


class Squashed(RationalQuadratic):
    """zuko's parameters: bounded smoothly, slopes are their exp, and bins have no smallest size."""

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        widths, heights, slopes = super().split(parameters)
        shares = [(a / (1 + (2 * a / math.log(SMALLEST)).abs())).softmax(-2) for a in (widths, heights)]
        logits = [((share - SMALLEST) / (1 - self.bins * SMALLEST)).log() for share in shares]
        return logits[0], logits[1], slopes

    def slope(self, a: Tensor) -> Tensor:
        return (a / (1 + (a / math.log(SMALLEST)).abs())).exp()


class Softplus(RationalQuadratic):
    """nflows' parameters, which stand for a slope of 1 at another value."""

    def slope(self, a: Tensor) -> Tensor:
        return torch.where(a == 0, 1.0, SMALLEST + softplus(a))  # at both ends, where a is 0


class Scale(Affine):
    """nflows' scales: a function of the first parameter."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.scale = scale

    def log_scale(self, a: Tensor) -> Tensor:
        return (self.scale(a) + 1e-3).log()


def layers_of(flow: Any, kind: type) -> Iterator[Any]:
    return (part for part in flow.modules() if isinstance(part, kind))


@torch.no_grad()
def carry(layer: Autoregressive, univariate: Univariate, linears: list[Any], *, flip: bool, order: list[int]) -> None:
    """Copies the linear layers of a masked network whose hidden degrees cycle, and whose dimensions may be reversed.

    Args:
        order: Of the parameters of a dimension.
    """
    layer.univariate = univariate
    dims = torch.arange(DIM).flip(0) if flip else torch.arange(DIM)
    cycled = [(torch.arange(width) % (DIM - 1)).argsort(stable=True) for width in HIDDEN]
    outputs = (dims[:, None] * len(order) + torch.tensor(order)).flatten()
    for ours, theirs, (columns, rows) in zip(
        layer.network.layers, linears, pairwise([dims, *cycled, outputs]), strict=True
    ):
        ours.weight.copy_(theirs.weight[rows][:, columns])
        ours.bias.copy_(theirs.bias[rows])


def moved(module: nn.Module) -> Any:
    """With random weights of a size at which splines bend."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def points() -> Tensor:
    return 2 * torch.randn(200, DIM, dtype=torch.float64)


def compare(flow: Any, expected: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(flow.double().log_prob(x), expected, rtol=0, atol=1e-5)
    assert expected.std() > 1


@pytest.mark.parametrize("name", ["MAF", "NSF"])
def test_autoregressive_flows_are_zukos(name: str) -> None:
    flows = pytest.importorskip("zuko.flows")
    theirs = moved(getattr(flows, name)(DIM, transforms=LAYERS, hidden_features=HIDDEN))
    made, univariate, order = {
        "MAF": (MAF, Affine(math.log(1000)), [1, 0]),
        "NSF": (NSF, Squashed(BINS, 5.0), list(range(3 * BINS - 1))),
    }[name]
    ours = made(Space.continuous((DIM,)), made.Config(layers=LAYERS, hidden=HIDDEN[0]))
    for k, (layer, transform) in enumerate(
        zip(layers_of(ours, Autoregressive), theirs.transform.transforms, strict=True)
    ):
        linears = [m for m in transform.hyper if isinstance(m, nn.Linear)]
        carry(layer, univariate, linears, flip=k % 2 == 1, order=order)
    x = points()
    compare(ours, theirs().log_prob(x), x)


@pytest.mark.parametrize("name", ["MAF", "NSF"])
def test_autoregressive_flows_are_nflows(name: str) -> None:
    pytest.importorskip("nflows", reason="nflows is not installed")
    from nflows import distributions, transforms
    from nflows.flows import Flow

    how: dict[str, Any] = {"hidden_features": HIDDEN[0], "num_blocks": 1, "use_residual_blocks": False}
    masked = {
        "MAF": lambda: transforms.MaskedAffineAutoregressiveTransform(DIM, **how),
        "NSF": lambda: transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            features=DIM, num_bins=BINS, tails="linear", tail_bound=5.0, **how
        ),
    }[name]
    parts = [part for _ in range(LAYERS) for part in (masked(), transforms.ReversePermutation(DIM))]
    theirs = moved(Flow(transforms.CompositeTransform(parts), distributions.StandardNormal([DIM])))
    made: Any = {"MAF": MAF, "NSF": NSF}[name]
    univariate = {"MAF": Scale(softplus), "NSF": Softplus(BINS, 5.0)}[name]
    ours = made(Space.continuous((DIM,)), made.Config(layers=LAYERS, hidden=HIDDEN[0]))
    for layer, transform in zip(layers_of(ours, Autoregressive), parts[::2], strict=True):
        net = transform.autoregressive_net
        linears = [net.initial_layer, net.blocks[0].linear, net.final_layer]
        carry(layer, univariate, linears, flip=False, order=list(range(univariate.parameters)))
    x = points()
    compare(ours, theirs.log_prob(x), x)


def test_couplings_are_zukos() -> None:
    flows = pytest.importorskip("zuko.flows")
    theirs = moved(flows.RealNVP(DIM, transforms=LAYERS, hidden_features=HIDDEN))
    ours = [VectorCoupling(alternating(DIM, k), Affine(math.log(1000)), hidden=HIDDEN).double() for k in range(LAYERS)]
    x = z = points()
    ladj = torch.zeros(len(x), dtype=torch.float64)
    for layer, transform in zip(ours, theirs.transform.transforms, strict=True):
        linears = [m for m in transform.hyper if hasattr(m, "weight")]
        copy_linears(layer, linears, torch.arange(2 * len(layer.moved)).view(-1, 2).flip(1).flatten())
        z, found = layer(z)
        ladj += found
    expected = theirs().log_prob(x)
    torch.testing.assert_close(torch.distributions.Normal(0, 1).log_prob(z).sum(1) + ladj, expected, rtol=0, atol=1e-5)


def test_couplings_are_nflows() -> None:
    pytest.importorskip("nflows", reason="nflows is not installed")
    from nflows.transforms import AffineCouplingTransform

    def network(inputs: int, outputs: int) -> nn.Module:
        return Ignoring(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))

    theirs = moved(AffineCouplingTransform((~alternating(DIM, 0)).int(), network))
    ours = VectorCoupling(alternating(DIM, 0), Scale(lambda a: torch.sigmoid(a + 2)), hidden=HIDDEN).double()
    linears = [m for m in theirs.transform_net if isinstance(m, nn.Linear)]
    copy_linears(ours, linears, torch.arange(2 * len(ours.moved)).view(2, -1).flip(0).T.flatten())
    x = points()
    for found, expected in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


class Ignoring(nn.Sequential):
    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        return super().forward(x)


@torch.no_grad()
def copy_linears(layer: VectorCoupling, linears: list[Any], last: Tensor) -> None:
    """``last`` are the rows of the last layer in the order of ours."""
    mine = [m for m in layer.network if isinstance(m, nn.Linear)]
    for k, (ours, theirs) in enumerate(zip(mine, linears, strict=True)):
        rows = last if k == len(mine) - 1 else torch.arange(len(theirs.weight))
        ours.weight.copy_(theirs.weight[rows])
        ours.bias.copy_(theirs.bias[rows])
