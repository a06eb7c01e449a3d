"""MADE's masks and densities; the laws of the contract hold its sum and its causality."""

from __future__ import annotations

import pytest
import torch

from dgm import contracts
from dgm.contracts import perturbed
from dgm.models.autoregressive.made import MADE
from dgm.space import Space


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_jacobian_of_the_conditionals_is_strictly_lower_triangular(layers: int) -> None:
    made = perturbed(MADE(Space.continuous((6,)), MADE.Config(hidden=64, layers=layers)))
    jacobian = torch.autograd.functional.jacobian(lambda x: made.conditionals(x[None])[0].sum(-1), torch.randn(6))
    assert not jacobian.triu().any()
    below = torch.tril(torch.ones(6, 6), -1).bool()
    assert jacobian[below].abs().min() > 0, "a dimension does not see all of its past"


def test_the_first_dimension_has_a_bias_of_its_own() -> None:
    made = perturbed(MADE(Space.binary((3,)), MADE.Config(hidden=16)))
    outputs = made.conditionals(torch.tensor([[0, 0, 0], [1, 1, 1]], dtype=torch.uint8))
    assert torch.equal(outputs[0, 0], outputs[1, 0])
    assert not torch.equal(outputs[0, 2], outputs[1, 2])


def test_the_first_dimension_depends_on_the_condition_by_units_of_degree_zero() -> None:
    """As many hidden units for each degree from 0 to D - 1. Kills: degrees from 1 on."""
    made = perturbed(MADE(Space.binary((4,)), MADE.Config(hidden=16), Space.categories(2)))
    assert made.m.flatten().bincount().tolist() == [4, 4, 4, 4]
    x = torch.zeros(2, 4, dtype=torch.uint8)
    outputs = made.conditionals(x, torch.tensor([0, 1]))
    assert (outputs[0, 0] - outputs[1, 0]).abs() > 1e-3


def test_units_of_every_hidden_layer_are_dropped() -> None:
    """All of them here, so that each later layer has only its bias. Kills: dropout of the last layer alone."""
    made, seen = perturbed(MADE(Space.binary((4,)), MADE.Config(hidden=16, layers=3))), list[torch.Tensor]()
    made.dropout.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]) or torch.zeros_like(output))  # type: ignore[func-returns-value]
    outputs = made.conditionals(torch.ones(1, 4, dtype=torch.uint8))
    for h, layer in zip(seen[1:], made.hidden[1:], strict=True):
        assert torch.equal(h[0], layer.bias.relu())
    assert torch.equal(outputs.flatten(), made.output.bias)


def test_log_prob_is_the_chain_rule_by_hand() -> None:
    made = perturbed(MADE(Space.binary((4,)), MADE.Config(hidden=16)))
    x = torch.tensor([[1, 0, 1, 1]], dtype=torch.uint8)
    p = made.conditionals(x)[0, :, 0].sigmoid()
    expected = (p[0] * (1 - p[1]) * p[2] * p[3]).log()
    assert made.log_prob(x)[0].item() == pytest.approx(expected.item(), abs=1e-5)


MIXED = [
    Space.binary((5,)),
    Space.levels((1, 2, 2), 4),
    Space.tokens(4, 3),
    Space.continuous((3,), scale=(2.0, 0.5, 1)),
]


@pytest.mark.parametrize("space", MIXED, ids=str)
@pytest.mark.parametrize("config", [{"masks": 3}, {"masks": 3, "layers": 2}, {"direct": True}, {"layers": 3}], ids=str)
def test_every_law_of_the_chain_rule_holds(space: Space, config: dict[str, int]) -> None:
    """Kills: weights that see the dimension itself, a mixture of logits, a unit that is computed too early."""
    made = perturbed(MADE(space, MADE.Config(hidden=24, **config)))
    for law in (
        contracts.conditionals_are_autoregressive,
        contracts.density_is_the_product_of_conditionals,
        contracts.sequential_conditionals_agree,
        contracts.density_sums_to_one,
        contracts.samples_follow_density,
    ):
        result = contracts.run(law, made)
        assert result.outcome is not contracts.Outcome.BROKEN, f"{result.law}: {result.detail}"


def test_masks_are_a_mixture_of_networks() -> None:
    made = perturbed(MADE(Space.binary((5,)), MADE.Config(hidden=24, masks=4)))
    x = contracts.all_examples(made.space)
    of_each = torch.stack([made.log_prob_by(mask, x, None).exp() for mask in range(4)])
    assert torch.allclose(of_each.sum(1), torch.ones(4), atol=1e-4)
    assert torch.allclose(made.log_prob(x).exp(), of_each.mean(0), atol=1e-6)
    assert (of_each[0] - of_each[1]).abs().max() > 1e-3, "the masks are alike"


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_draws_a_mask_and_masks_are_no_state(training: bool) -> None:
    """In validation too: the mean over 32 masks took longer than the training between two of them."""
    made, again = (MADE(Space.binary((6,)), MADE.Config(hidden=32, masks=8, dropout=0.0)) for _ in range(2))
    made.train(training)
    x = contracts.all_examples(made.space)
    losses = {round(float(made.loss(x).sum().detach()), 3) for _ in range(40)}
    assert losses <= {round(float(-made.log_prob_by(mask, x, None).sum().detach()), 3) for mask in range(8)}
    assert len(losses) > 1
    assert torch.equal(made.m, again.m)
    assert not any(name.split(".")[-1] == "m" for name in made.state_dict())
