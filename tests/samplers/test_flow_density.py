"""The density that the ODE gives, where it is known: one normal, on several paths."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dgm.distributions.scaling import Scaling
from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, Straight
from dgm.processes.parameterisation import Endpoints
from dgm.samplers import flow_density
from dgm.space import Space

from .gaussian import marginal, optimal, path_name


class Normal:
    """The best model of N(M, S²) in the path's units, each dimension alone."""

    def __init__(self, space: Space, path: GaussianPath, t_min: float) -> None:
        self.space, self.path, self.t_min, self.scaling = space, path, t_min, Scaling(space).double()
        self.config, self.evaluations = SimpleNamespace(classes=0), 0

    def endpoints(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Endpoints:
        self.evaluations += 1
        return optimal(self.path)(x, t[0])


# a prior N(0, sigma_1²) is off by what is left of the data there, most with the cosine
PATHS = [CosineVP(), LinearVE(80.0), Straight()]


@pytest.mark.parametrize("path", PATHS, ids=path_name)
@pytest.mark.parametrize("dim", [2, 20])
def test_adaptive_log_prob_is_the_normals(path: GaussianPath, dim: int) -> None:
    """Within the tolerance a step; the trace of a scaled identity is exact under any signs."""
    model = Normal(Space.continuous((dim,), loc=(2.0,) * dim, scale=(3.0,) * dim), path, t_min=1e-3)
    x = 2 + 3 * torch.randn(40, dim, dtype=torch.float64)
    mean, std = marginal(path, flow_density.first_time(model))
    expected = torch.distributions.Normal(mean, std).log_prob((x - 2) / 3).sum(1) - dim * math.log(3)
    found = flow_density.log_prob(model, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-2 * dim)
    assert model.evaluations < 150


def test_a_finer_tolerance_comes_nearer() -> None:
    """But for what the prior misses, which is nothing on the straight path."""
    model, x = Normal(Space.continuous((2,)), Straight(), t_min=1e-3), torch.randn(40, 2, dtype=torch.float64)
    mean, std = marginal(model.path, flow_density.first_time(model))
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(1)
    torch.testing.assert_close(flow_density.log_prob(model, x, tolerance=1e-6), expected, rtol=0, atol=1e-4)
