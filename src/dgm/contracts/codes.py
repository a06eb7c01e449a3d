"""Laws of models that encode data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal

from dgm.contracts.examples import all_examples_or_skip, random_examples, support, with_condition
from dgm.contracts.likelihood import average_to_one, repeats
from dgm.contracts.outcome import require
from dgm.protocols import Model
from dgm.space import Space

OFF, NARROW = 0.3, 0.6  # mean and standard deviation of a normal prior that is no model's own, with lighter tails


def decode_inverts_encode(model: Model) -> str:
    """decode(encode(x)) equals x for a model with an exact likelihood."""
    with torch.no_grad():
        x = random_examples(model.space, 16)
        error = float(
            (model.decode(*with_condition(model, model.encode(*with_condition(model, x)))).double() - x.double())
            .abs()
            .max()
        )
    return require(error < 1e-3, f"largest error {error:.2g}")


def log_determinant_matches_the_jacobian(model: Model) -> str:
    """The log-determinant equals that of the encoder's Jacobian by automatic differentiation."""
    x = random_examples(model.space, 4)
    if model.space.discrete:
        ladj = model.encode_and_ladj(*with_condition(model, x))[1]
        return require(not ladj.any(), "x and its code are discrete, and the log-determinant is 0")
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda v: model.encode(*with_condition(model, v[None]))[0], row)
            for row in x
        ]
    )
    with torch.no_grad():
        z, ladj = model.encode_and_ladj(*with_condition(model, x))
        d, off = model.space.dim, float((z - model.encode(*with_condition(model, x))).abs().max())
        expected = torch.linalg.slogdet(jacobian.reshape(4, d, d).double())[1]
        error = float((ladj.double() - expected).abs().max())
    return require(error < 1e-3 and off < 1e-3, f"largest difference {error:.2g} nats, and {off:.2g} of the code")


@torch.no_grad()
def codes_lie_in_the_latent_space(model: Model) -> str:
    """Codes lie in the latent space, and decoded codes lie in the space of the data."""
    x, space = random_examples(model.space, 16), model.latent_space
    z = space.check(model.encode(*with_condition(model, x)))
    require(z.dtype == space.dtype, f"codes of {z.dtype}, expected {space.dtype}")
    decoded = model.space.check(model.decode(*with_condition(model, random_examples(space, 16))))
    return require(decoded.dtype == model.space.dtype, f"{space}")


@torch.no_grad()
def weights_under_any_prior_sum_to_one(model: Model) -> str:
    """With any prior of the codes, the importance weights of all x sum to one on average."""
    x, prior = all_examples_or_skip(model.space), some_prior(model.latent_space)

    def log_weight() -> Tensor:
        z, log_ratio = model.code_and_log_ratio(*with_condition(model, x))
        return prior.log_prob(z).flatten(1).sum(1) + log_ratio

    if getattr(model, "deterministic_codes", False):  # the weight lacks all codes of x but one
        total = float((log_weight().double().exp() * support(model.space)[1]).sum())
        return require(total <= 1 + 1e-4, f"sum of p(x|z(x)) p(z(x)) = {total:.4f}")
    return average_to_one(model, [log_weight() for _ in range(repeats(x))])


def some_prior(space: Space) -> Distribution:
    """A density of codes, independent in each dimension: normal, or of unequal probabilities of discrete values."""
    if not space.discrete:
        return Normal(OFF, NARROW)
    return Categorical(logits=torch.arange(space.values or 0).double().sin())
