"""Laws of losses, conditions and descriptions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dgm import registry
from dgm.contracts.examples import equal_values, is_dequantised, random_conditions, random_examples
from dgm.contracts.outcome import Broken, Skipped, require
from dgm.errors import DgmError
from dgm.likelihood import kind_of, log_likelihood
from dgm.networks.conditions import labels_of
from dgm.protocols import Model, MultiPlayer, Samplable, Trainable, Variational, condition_of, has, nested
from dgm.sampling import sample
from dgm.space import Space

ROUNDING = 1e-6  # relative to the largest gradient; float32 rounding of a gradient that cancels is a tenth of it


def every_parameter_has_a_gradient(model: Model) -> str:
    """The loss has one finite value for each example, and every parameter has a gradient."""
    if model.space.dim == 1:
        raise Skipped("with a single dimension, the parameters that connect dimensions are unused")
    model.train()
    x, y = random_examples(model.space, 64), random_conditions(model, 64)
    loss = model.loss(x, y)
    require(loss.shape == (64,) and bool(loss.isfinite().all()), f"a loss of shape {tuple(loss.shape)}")
    model.zero_grad()
    loss.mean().backward()
    largest = {
        name: 0.0 if p.grad is None else float(p.grad.abs().max())
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    missing = [name for name, size in largest.items() if size <= ROUNDING * max(largest.values())]
    model.zero_grad()
    model.eval()
    return require(
        not missing, f"no gradient for {', '.join(missing)}" if missing else "all parameters have a gradient"
    )


def loss_has_no_side_effects(model: Model) -> str:
    """The loss in training mode changes no buffer, and the same random state gives bit-identical losses."""
    x, y = random_examples(model.space, 8), random_conditions(model, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(model.loss(x, y).detach())
    model.eval()
    moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    model.load_state_dict(before)
    require(not moved, f"the loss changes {', '.join(moved)}; see dgm.protocols.Stateful")
    return require(torch.equal(*found), f"losses {found[0].mean():.6g} and {found[1].mean():.6g}")


def players_reach_their_own_parameters(model: Model) -> str:
    """Each player's loss has a gradient for all of its own parameters, and the first player's loss for no others."""
    model.train()
    seen: list[str] = []
    for player, loss in model.losses(random_examples(model.space, 16), random_conditions(model, 16)):
        require(
            loss.shape == (16,) and bool(loss.isfinite().all()), f"{player} has a loss of shape {tuple(loss.shape)}"
        )
        parameters = [p for p in model.get_submodule(player).parameters() if p.requires_grad]
        learnt = [p for p in model.parameters() if p.requires_grad]
        others = [p for p in learnt if all(p is not q for q in parameters)] if not seen else []
        gradients = torch.autograd.grad(loss.mean(), parameters + others, retain_graph=True, allow_unused=True)
        require(
            all(g is not None for g in gradients[: len(parameters)]),
            f"the loss of {player} has no gradient for some of its own parameters",
        )
        require(
            all(g is None for g in gradients[len(parameters) :]),
            f"the loss of {player} has a gradient for parameters of another player",
        )
        seen.append(player)
    model.eval()
    return require(len(seen) > 1, f"players {', '.join(seen)}")


def fitting_increases_the_likelihood(model: Model) -> str:
    """Each pass over the data increases the likelihood."""
    batches = [(random_examples(model.space, 64), None) for _ in range(2)]
    losses = [loss for loss, _ in zip(model.fit(batches), range(6), strict=False)]
    if not losses:
        raise Skipped("the model is already fitted and has converged")
    # dequantisation noise and codes are drawn anew in each pass, and a regularised M-step may lose a little
    slack = 0.5 * model.space.dim if is_dequantised(model) or has(model, Variational) else 0.05
    worst = max((b - a for a, b in itertools.pairwise(losses)), default=0.0)
    return require(worst < slack and losses[-1] <= losses[0] + slack, f"losses {', '.join(f'{v:.3f}' for v in losses)}")


def invalid_conditions_are_refused(model: Model) -> str:
    """A condition outside its space, or for an unconditional model, is refused with an error of one line."""
    condition = condition_of(model)
    wrong = torch.tensor([0, labels_of(model)]) if condition is None or labels_of(model) else outside(condition)
    x, y = random_examples(model.space, 2), wrong
    try:
        if condition is not None and has(model, MultiPlayer):
            list(model.losses(x, y))
        elif condition is not None and has(model, Trainable):
            model.loss(x, y)
        elif kind_of(model) is not None:
            log_likelihood(model, x, y)
        else:
            sample(model, 2, y)
    except DgmError as error:
        return str(error)
    raise Broken(f"the condition {y.tolist()} was accepted by a model with {condition or 'no condition'}")


def outside(condition: Space) -> Tensor:
    """Two conditions outside the space: values that are too large for a discrete space, or NaN for a continuous one."""
    y = random_examples(condition, 2)
    if condition.values is None:
        return y[:, :-1] if condition.kind == "record" else torch.full_like(y, torch.nan)
    return torch.full(y.shape, condition.values)


@torch.no_grad()
def description_rebuilds_the_model(model: Model) -> str:
    """A model rebuilt from the description and the weights gives the same samples."""
    again = registry.from_description(registry.describe(model), *map(type, nested(model)))
    again.load_state_dict(model.state_dict())
    again.eval()
    if has(model, Samplable):
        return require(bool(equal_values(model.sample(4, seed=2), again.sample(4, seed=2)).all()), "the same samples")
    return "the weights fit"
