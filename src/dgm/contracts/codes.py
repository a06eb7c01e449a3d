"""Laws of models with a code for each x."""

from __future__ import annotations

import torch

from dgm.contracts.examples import all_examples, some, under
from dgm.contracts.likelihood import average_to_one, repeats
from dgm.contracts.outcome import Skipped, require
from dgm.protocols import Model

OFF, NARROW = 0.3, 0.6  # a density of codes that is no model's own, with lighter tails than a posterior has


def code_inverts(model: Model) -> str:
    """decode(encode(x)) is x for a model with an exact density."""
    with torch.no_grad():
        x = some(model.space, 16)
        error = float((model.decode(*under(model, model.encode(*under(model, x)))).double() - x.double()).abs().max())
    return require(error < 1e-3, f"largest error {error:.2g}")


def log_determinant_is_the_jacobians(model: Model) -> str:
    """The log-determinant of an invertible model is that of its code's Jacobian by autodiff."""
    x = some(model.space, 4)
    if model.space.discrete:
        ladj = model.encode_and_ladj(*under(model, x))[1]
        return require(not ladj.any(), "x and its code are counted, and the log-determinant is 0")
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: model.encode(*under(model, v[None]))[0], row) for row in x]
    )
    with torch.no_grad():
        z, ladj = model.encode_and_ladj(*under(model, x))
        d, off = model.space.dim, float((z - model.encode(*under(model, x))).abs().max())
        expected = torch.linalg.slogdet(jacobian.reshape(4, d, d).double())[1]
        error = float((ladj.double() - expected).abs().max())
    return require(error < 1e-3 and off < 1e-3, f"largest difference {error:.2g} nats, of the code {off:.2g}")


@torch.no_grad()
def codes_lie_in_the_latent_space(model: Model) -> str:
    """Codes lie in the latent space that the model states, and codes of it are decoded into its own."""
    x, space = some(model.space, 16), model.latent_space
    z = space.check(model.encode(*under(model, x)))
    require(z.dtype == space.dtype, f"codes of {z.dtype}, expected {space.dtype}")
    decoded = model.space.check(model.decode(*under(model, some(space, 16))))
    return require(decoded.dtype == model.space.dtype, f"{space}")


@torch.no_grad()
def weights_under_any_prior_sum_to_one(model: Model) -> str:
    """The importance weights of all x sum to one under any density of codes."""
    if model.latent_space.discrete:
        raise Skipped("the law is looked at for a normal density of continuous codes")
    x, prior = all_examples(model.space), torch.distributions.Normal(OFF, NARROW)
    draws = []
    for _ in range(repeats(x)):
        z, log_ratio = model.code_and_log_ratio(*under(model, x))
        draws.append(prior.log_prob(z).flatten(1).sum(1) + log_ratio)
    return average_to_one(model, draws)
