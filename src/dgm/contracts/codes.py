"""Laws of models with a code for each x."""

from __future__ import annotations

import math

import torch

from dgm.contracts.examples import some, under
from dgm.contracts.outcome import require
from dgm.protocols import Model


def code_inverts(model: Model) -> str:
    """decode(encode(x)) is x for a model with an exact density."""
    with torch.no_grad():
        x = some(model.space, 16)
        error = float((model.decode(*under(model, model.encode(*under(model, x)))).double() - x.double()).abs().max())
    return require(error < 1e-3, f"largest error {error:.2g}")


def log_determinant_is_the_jacobians(model: Model) -> str:
    """log p(x) is log N(z; 0, I) plus the log-determinant of z's Jacobian by autodiff."""
    x = some(model.space, 4)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: model.encode(*under(model, v[None]))[0], row) for row in x]
    )
    with torch.no_grad():
        z, d = model.encode(*under(model, x)).flatten(1).double(), model.space.dim
        expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        expected += torch.linalg.slogdet(jacobian.reshape(4, d, d).double())[1]
        error = float((model.log_prob(*under(model, x)).double() - expected).abs().max())
    return require(error < 1e-3, f"largest difference {error:.2g} nats")
