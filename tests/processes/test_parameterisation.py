"""Every prediction as every other, against what each is by definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dgm.processes.gaussian import CosineVP, GaussianPath, LinearVE, LinearVP, Straight, SubVP, VarianceExploding
from dgm.processes.parameterisation import COEFFICIENTS, convert, prediction

PATHS = [LinearVP(), CosineVP(), SubVP(), VarianceExploding(0.01, 50.0), LinearVE(80.0), Straight()]


def by_definition(path: GaussianPath, x_0: Tensor, eps: Tensor, t: Tensor) -> dict[str, Tensor]:
    """The score by autodiff of log q(x_t | x_0), the velocity by autodiff of x_t in t."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    x_t = (alpha * x_0 + sigma * eps).requires_grad_()
    log_q = torch.distributions.Normal(alpha * x_0, sigma).log_prob(x_t).sum()
    velocity = torch.autograd.functional.jacobian(lambda t: path.alpha(t) * x_0 + path.sigma(t) * eps, t)
    (score,) = torch.autograd.grad(log_q, x_t)
    v = alpha * eps - sigma * x_0
    return {"x_t": x_t.detach(), "x_0": x_0, "eps": eps, "v": v, "score": score, "velocity": velocity}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize(("source", "to"), list(itertools.product(COEFFICIENTS, COEFFICIENTS)))
def test_conversion(path: GaussianPath, source: str, to: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    for t in torch.tensor([0.05, 0.4, 0.95], dtype=torch.float64):
        are = by_definition(path, x_0, eps, t)
        torch.testing.assert_close(convert(source, to, path, are[source], are["x_t"], t), are[to])  # type: ignore[arg-type]


def test_a_batch_of_times() -> None:
    path, t = LinearVP(), torch.tensor([0.2, 0.8], dtype=torch.float64)
    x_0, eps = torch.randn(2, 2, 3, dtype=torch.float64)
    predicted = prediction("eps", path, eps, path.corrupt(x_0, eps, t), t)
    torch.testing.assert_close(predicted.x_0, x_0)
