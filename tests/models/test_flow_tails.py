"""Flows invert in the tails: from data and from draws of the base, ten standard deviations out.

Published libraries fail where they sample and not where they measure, since the inverse is the numeric one.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dgm.contracts import perturbed
from dgm.registry import create
from dgm.space import Space

FAR = 10.0  # standard deviations
CLOSE = 50.0  # times the error that a single rounding of exact values would make: each layer rounds
# name: (settings, the largest error in float64 and in float32, relative to 1 + |x|)
FLOWS: dict[str, tuple[dict[str, Any], float, float]] = {
    "planar": ({}, 1e-10, 1e-4),
    "radial": ({}, 1e-10, 1e-4),
    "nice": ({}, 1e-10, 1e-4),
    "realnvp": ({}, 1e-10, 1e-4),
    "glow": ({}, 1e-10, 1e-4),
    "maf": ({}, 1e-10, 1e-4),
    "iaf": ({}, 1e-10, 1e-4),
    "nsf": ({}, 1e-10, 1e-4),
    "nsf, coupling": ({"kind": "coupling"}, 1e-10, 1e-4),
    "residual_flow": ({}, 1e-10, 1e-4),  # to the rounding of the fixed point
    "tarflow": ({}, 1e-10, 1e-4),
    "ffjord": ({}, 1e-6, 1e-4),  # to the tolerance of its solver
}
SPACES = [Space.continuous((1,)), Space.continuous((3,), loc=(1.0, -2.0, 0.0), scale=(3.0, 0.5, 1.0))]


def far(n: int, dim: int) -> Tensor:
    """Points of every scale up to ten standard deviations in every dimension."""
    torch.manual_seed(1)
    return torch.randn(n, dim).sign() * FAR * torch.rand(n, 1) ** 0.5 * torch.rand(n, dim).clamp_min(0.3)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_inverts_in_the_tails(name: str, space: Space, precision: torch.dtype) -> None:
    settings, at_best, in_float32 = FLOWS[name]
    torch.manual_seed(0)
    flow: Any = perturbed(create(name.split(",")[0], space, **settings)).to(precision)
    tolerance = at_best if precision == torch.float64 else in_float32
    exact = copy.deepcopy(flow).double()
    with torch.no_grad():
        for there, back in (("decode", "encode"), ("encode", "decode")):
            z = far(200, space.dim).to(precision)
            found = getattr(flow, there)(z)
            error = (getattr(flow, back)(found) - z).abs() / (1 + z.abs())
            # what the rounding of the values between costs, whatever the arithmetic: steep maps multiply it
            between = getattr(exact, there)(z.double()).to(precision).double()
            rounded = (getattr(exact, back)(between) - z).abs() / (1 + z.abs())
            assert error.max() < tolerance + CLOSE * rounded.max()
            assert found.isfinite().all()
        assert flow.encode_and_ladj(far(200, space.dim).to(precision))[1].isfinite().all()
