"""Laws of losses, and of what a model is made of."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dgm import registry
from dgm.contracts.examples import is_dequantised, labels, same, some
from dgm.contracts.outcome import Broken, Skipped, require
from dgm.errors import DgmError
from dgm.likelihood import kind_of, log_likelihood
from dgm.networks.conditions import labels_of
from dgm.protocols import Model, MultiPlayer, Samplable, Trainable, Variational, condition_of, has, nested
from dgm.sampling import sample
from dgm.space import Space

ROUNDING = 1e-6  # of the largest gradient: in float32 what should cancel leaves about a tenth of that


def loss_reaches_every_parameter(model: Model) -> str:
    """The loss is one finite value an example, and every parameter has a gradient."""
    if model.space.dim == 1:
        raise Skipped("the parameters between dimensions have nothing to do for a single one")
    model.train()
    x, y = some(model.space, 64), labels(model, 64)
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
    return require(not missing, f"no gradient for {', '.join(missing)}" if missing else "all have one")


def loss_changes_nothing(model: Model) -> str:
    """The loss changes no buffer, and from the same random state it gives the same bits, in training too."""
    x, y = some(model.space, 8), labels(model, 8)
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


def players_descend_their_own(model: Model) -> str:
    """Each player's loss reaches its own parameters, and the discriminator's no one else's."""
    model.train()
    seen: list[str] = []
    for player, loss in model.losses(some(model.space, 16), labels(model, 16)):
        require(
            loss.shape == (16,) and bool(loss.isfinite().all()), f"{player} has a loss of shape {tuple(loss.shape)}"
        )
        parameters = [p for p in model.get_submodule(player).parameters() if p.requires_grad]
        learnt = [p for p in model.parameters() if p.requires_grad]
        others = [p for p in learnt if all(p is not q for q in parameters)] if not seen else []
        gradients = torch.autograd.grad(loss.mean(), parameters + others, retain_graph=True, allow_unused=True)
        require(
            all(g is not None for g in gradients[: len(parameters)]), f"{player}'s loss misses some of its parameters"
        )
        require(all(g is None for g in gradients[len(parameters) :]), f"{player}'s loss reaches another player")
        seen.append(player)
    model.eval()
    return require(len(seen) > 1, f"players {', '.join(seen)}")


def passes_gain(model: Model) -> str:
    """Each pass over the data gains likelihood."""
    batches = [(some(model.space, 64), None) for _ in range(2)]
    losses = [loss for loss, _ in zip(model.fit(batches), range(6), strict=False)]
    if not losses:
        raise Skipped("the model is fitted already, and has converged")
    # dequantising noise, or a code, is drawn anew at each pass, and a regularised M-step may lose a little
    slack = 0.5 * model.space.dim if is_dequantised(model) or has(model, Variational) else 0.05
    worst = max((b - a for a, b in itertools.pairwise(losses)), default=0.0)
    return require(worst < slack and losses[-1] <= losses[0] + slack, f"losses {', '.join(f'{v:.3f}' for v in losses)}")


def labels_are_checked(model: Model) -> str:
    """A condition where none was trained, or one that is not of its space, is refused with one line."""
    condition = condition_of(model)
    wrong = torch.tensor([0, labels_of(model)]) if condition is None or labels_of(model) else outside(condition)
    x, y = some(model.space, 2), wrong
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
    raise Broken(f"the condition {y.tolist()} was taken by a model of {condition or 'no condition'}")


def outside(condition: Space) -> Tensor:
    """Two conditions that are not of the space: a value too large of a discrete one, NaN of a continuous one."""
    y = some(condition, 2)
    if condition.values is None:
        return y[:, :-1] if condition.kind == "record" else torch.full_like(y, torch.nan)
    return torch.full(y.shape, condition.values)


@torch.no_grad()
def description_makes_it_again(model: Model) -> str:
    """Its description and its weights make the same model again."""
    again = registry.from_description(registry.describe(model), *map(type, nested(model)))
    again.load_state_dict(model.state_dict())
    again.eval()
    if has(model, Samplable):
        return require(bool(same(model.sample(4, seed=2), again.sample(4, seed=2)).all()), "the same samples")
    return "the weights fit"
